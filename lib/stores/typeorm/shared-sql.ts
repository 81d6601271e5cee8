/* Pieces of the statements that are sent for many callers at once. `w` is a row of their parameters, `r` that of the record. */

/*
 * A named statement keeps its plan until the table is analysed again, and one that was made for a table
 * of a few rows would read all of a table that has grown to a million since. So what decides the plan
 * is neither how many rows the statement is for nor how many the table has.
 */

/** True for every row of `w`, and the planner expects one of 200 to pass: that is, one row, of however many. */
export const OF_ONE_ROW = 'w.n + 0 = w.n';

/**
 * True for every row of `r`, and the planner takes it for dear: with two rows in the table the index is
 * cheaper than to read all. (A table that was vacuumed while empty has none: see the pool's `maxUses`.)
 */
export const BY_KEY = `CASE WHEN octet_length(r.record_key) >= 0 THEN true
    ELSE (SELECT count(*) FROM generate_series(1, 10000) AS i WHERE i = octet_length(r.record_key)) > 0 END`;

/** How long a row may keep the others of its batch waiting, for this one transaction; empty: as it is set. */
export const patience = (parameter: string): string =>
  `(SELECT set_config('lock_timeout', COALESCE(${parameter}::text, current_setting('lock_timeout')), true)) IS NOT NULL`;
