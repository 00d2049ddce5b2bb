-- Portrait search: the faces of portraits/*, one row each, and the portraits of whom query.jpg shows.
-- Needs the extra: pip install "hybridq-engine[faces]"
CREATE EXTENSION open_analytic;

CREATE TABLE faces (
    portrait TEXT, face INTEGER, gender TEXT, age FLOAT, feature FLOAT[128], PRIMARY KEY (portrait, face)
);

INSERT INTO faces
SELECT parse_filename(p.filename), row_number() OVER (PARTITION BY p.filename ORDER BY f.score DESC),
       f.gender, f.age, f.feature
FROM read_blob('portraits/*') AS p, detect_faces(p.content) AS f;

CREATE INDEX faces_feature ON faces USING ann (feature) INCLUDE (gender, age);

-- Nearer than .55 is one person.
SELECT portrait, gender, round(age) AS age, feature <-> extract_face_feature('query.jpg') AS distance
FROM faces
WHERE age BETWEEN 15 AND 70
ORDER BY distance
LIMIT 5;
