-- What one database holds:
--   token|choice_id|created (seconds since 1970)   a row per vote
--   id|votes|opening                               a row per choice, of the same moment
--   schema.table|rows|checksum                     a row per table, whatever is in it; of the same moment if nobody writes
SELECT token::text, choice_id, extract(epoch FROM created)::text FROM polls_vote
UNION ALL
SELECT polls_choice.id::text, polls_choice.votes, coalesce(polls_openingcount.votes, 0)::text
FROM polls_choice LEFT JOIN polls_openingcount ON polls_openingcount.choice_id = polls_choice.id
UNION ALL
SELECT format('%I.%I', schemaname, tablename), rows, checksum
FROM pg_tables
CROSS JOIN LATERAL xmltable(
    '/table/row' PASSING query_to_xml(
        -- A sum does not depend on the order of the rows, which two databases need not share.
        format('SELECT count(*) AS rows, coalesce(sum(hashtextextended(t::text, 0)), 0) AS checksum FROM %I.%I AS t',
               schemaname, tablename), false, false, '')
    COLUMNS rows bigint PATH 'rows', checksum text PATH 'checksum')
WHERE schemaname NOT IN ('pg_catalog', 'information_schema')
