-- What one database holds, from one statement and hence one moment:
--   token|choice_id|created (seconds since 1970)   a row per vote
--   id|votes|opening                               a row per choice
SELECT token::text, choice_id, extract(epoch FROM created)::text FROM polls_vote
UNION ALL
SELECT polls_choice.id::text, polls_choice.votes, coalesce(polls_openingcount.votes, 0)::text
FROM polls_choice LEFT JOIN polls_openingcount ON polls_openingcount.choice_id = polls_choice.id
