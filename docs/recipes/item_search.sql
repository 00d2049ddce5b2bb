-- Item search: what is on the product photos items/*, found by category, by words and by a picture.
CREATE EXTENSION open_analytic;

CREATE TABLE items (
    name TEXT PRIMARY KEY, category TEXT, article_type TEXT, attributes TEXT, feature FLOAT[1024]
);

INSERT INTO items
SELECT name, a.category, a.article_type, concat_ws(', ', a.gender, a.colour, a.season, a.usage), feature
FROM (
    SELECT parse_filename(filename) AS name, commodity_attributes(content) AS a,
           extract_feature(content) AS feature
    FROM read_blob('items/*')
);

CREATE INDEX items_feature ON items USING ann (feature) INCLUDE (category, article_type, attributes);

-- Without a picture …
SELECT name, article_type, attributes
FROM items
WHERE category = 'Apparel' AND attributes LIKE '%Blue%'
ORDER BY name;

-- … and with one: the nearest of those.
SELECT name, article_type, attributes
FROM items
WHERE category = 'Apparel' AND attributes LIKE '%Blue%'
ORDER BY feature <-> extract_feature('query.jpg')
LIMIT 5;
