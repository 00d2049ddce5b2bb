-- Question answering: the answer whose question means nearly what was asked.
-- Needs the extra: pip install "hybridq-engine[text]"
CREATE EXTENSION open_analytic;

CREATE TABLE answers (question TEXT PRIMARY KEY, answer TEXT, topic TEXT, feature FLOAT[384]);

INSERT INTO answers
SELECT question, answer, topic, extract_text_feature(question)
FROM (
    VALUES
    ('How do I return an item?', 'Within 30 days, with the label from your account.', 'orders'),
    ('When will my parcel arrive?', 'Two to four working days after it was sent.', 'orders'),
    ('Which ways to pay are there?', 'By card, by transfer or on delivery.', 'payment'),
    ('I forgot my password', 'Choose "new password" where you sign in.', 'account'),
    ('How can I close my account?', 'Write to us; it is closed within a day.', 'account')
) AS given (question, answer, topic);

CREATE INDEX answers_feature ON answers USING ann (feature) WITH (metric = 'cosine');

SELECT question, answer, feature <=> extract_text_feature('how can I send the shoes back?') AS distance
FROM answers
WHERE topic <> 'payment'
ORDER BY distance
LIMIT 1;
