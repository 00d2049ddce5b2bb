-- Speaker search: who speaks in query.flac? The nearest of the voices in voices/*.
-- Needs the extra: pip install "hybridq-engine[voice]"
CREATE EXTENSION open_analytic;

CREATE TABLE voices (clip TEXT PRIMARY KEY, speaker TEXT, feature FLOAT[256]);

INSERT INTO voices
SELECT parse_filename(filename), split_part(parse_filename(filename), '-', 1), extract_voiceprint(content)
FROM read_blob('voices/*');

CREATE INDEX voices_feature ON voices USING ann (feature) WITH (metric = 'cosine');

-- Nearer than .25 is one speaker.
SELECT speaker, feature <=> extract_voiceprint('query.flac') AS distance
FROM voices
ORDER BY distance
LIMIT 1;
