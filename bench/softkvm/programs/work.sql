-- SPDX-License-Identifier: GPL-2.0-or-later
-- Fixed work for the suite: rows, an index, a join, groups, text. bench/softkvm/programs/run fills in @ROWS@.
CREATE TABLE item (id INTEGER PRIMARY KEY, owner INTEGER, name TEXT, price INTEGER);
CREATE TABLE owner (id INTEGER PRIMARY KEY, name TEXT);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
	INSERT INTO owner SELECT i, printf('owner-%05x', i * 7919 % 1048573) FROM n;
BEGIN;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < @ROWS@)
	INSERT INTO item SELECT i, i * 31 % 1000 + 1, printf('item %d of %x', i, i * 2654435761 % 4294967296),
		i * 48271 % 100003 FROM n;
COMMIT;
CREATE INDEX item_price ON item (price);
SELECT count(*), sum(price) FROM item WHERE price BETWEEN 1000 AND 50000;
SELECT owner.name, count(*), sum(item.price) FROM item JOIN owner ON owner.id = item.owner
	GROUP BY owner.id ORDER BY 3 DESC, 1 LIMIT 20;
UPDATE item SET price = price + 1 WHERE id % 3 = 0;
SELECT count(*) FROM item WHERE name LIKE '%ff%';
DELETE FROM item WHERE price % 5 = 0;
SELECT max(length(name)), min(name), count(DISTINCT owner) FROM item;
