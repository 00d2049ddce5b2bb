-- Image search: photos/*.png in, those nearest to query.png out.
CREATE TABLE album (name TEXT PRIMARY KEY, label TEXT, feature FLOAT[1024]);

INSERT INTO album
SELECT parse_filename(filename), split_part(parse_filename(filename), '_', 1), extract_feature(content)
FROM read_blob('photos/*.png');

CREATE INDEX album_feature ON album USING ann (feature);

SELECT name, label, feature <-> extract_feature('query.png') AS distance
FROM album
ORDER BY distance
LIMIT 5;
