"""Which reads leave something behind on their connection, told by their text. Pure, no I/O.

A read unit may run each of its statements on another connection, as long as none of them leaves a trace on its own: a
setting, a lock of the session, a variable, a savepoint, a cursor. What is not known to leave none is taken for one that
does, so that a mistake here costs a connection that is kept longer, and never a setting that gets lost. A function that
is not listed here may do anything; those of the application are not listed.

Sources: PostgreSQL documentation, "Functions and Operators" (what is listed is IMMUTABLE or STABLE, or of the kind of
`random`); MariaDB documentation, "Built-in Functions"; MySQL reference manual, the same; sqlite.org/lang_corefunc.html,
which has no function that keeps anything but those that only a write can change.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["MYSQL", "POSTGRESQL", "SQLITE", "Traces"]

_FIRST: Final = re.compile(r"[\s(]*([A-Za-z_]+)")
_CALL: Final = re.compile(r"""((?:[\w$]|"[^"]*"|`[^`]*`|\.)+)\s*\(""")
_HIDDEN: Final = re.compile(r"(?:\*/|--[^\n]*\n|\#[^\n]*\n)\s*\(|\bu&", re.IGNORECASE)
"""A name whose call the pattern above would miss: a comment before its parenthesis."""
_COMMON_TABLE: Final = re.compile(
    r"""([\w$]+)\s*\([\w$\s,"`]*\)\s*AS\s*(?:NOT\s+)?(?:MATERIALIZED\s*)?\(\s*(?:SELECT|VALUES|WITH|TABLE|\()""",
    re.IGNORECASE,
)
_NAMED: Final = re.compile(r"\bAS\s*\Z", re.IGNORECASE)
"""Behind it comes a name with columns, or a type, and no call."""


class Traces:
    """What one kind of server keeps for a session. Has no state and may be shared between threads."""

    __slots__ = ("_functions", "_lasting", "_words")

    def __init__(self, words: str, functions: str | None, lasting: str = "") -> None:
        self._words = frozenset(words.split())
        self._functions = None if functions is None else frozenset((_KEYWORDS + " " + functions).split())
        self._lasting = re.compile(lasting, re.IGNORECASE) if lasting else None

    def left_by(self, text: str) -> str | None:
        """By which word or function a statement may leave a trace on its connection; None if it leaves none."""
        found = _FIRST.match(text)
        word = found[1].upper() if found else ""
        if word not in self._words:
            return word or "a text that cannot be judged"
        if self._lasting is not None and (lasting := self._lasting.search(text)) is not None:
            return lasting[0].upper()
        if self._functions is None:
            return None
        if _HIDDEN.search(text) is not None:
            return "a function behind a comment"
        tables: set[str] | None = None
        for call in _CALL.finditer(text):
            name = call[1].lower().removeprefix("pg_catalog.")
            if name in self._functions or _NAMED.search(text, max(0, call.start() - 16), call.start()) is not None:
                continue
            if tables is None:
                tables = {table.lower() for table in _COMMON_TABLE.findall(text)}
            if name not in tables:
                return f"{call[1]}()"
        return None


_KEYWORDS: Final = """
    select from where having values table with recursive materialized lateral only distinct on using join by limit
    offset fetch next first union except intersect all any some exists in not and or xor is like ilike similar between
    escape case when then else end as over filter within group partition order range rows groups window grouping sets
    cube rollup array row cast interval collate at zone div mod regexp rlike sounds match against explain analyze
    numeric decimal dec varchar char character varying nchar nvarchar timestamp timestamptz time timetz datetime bit
    float double precision real binary varbinary signed unsigned integer int bigint smallint text key index use ignore
    force ordinality show
"""

_STANDARD: Final = """
    count sum avg min max every bool_and bool_or stddev stddev_pop stddev_samp variance var_pop var_samp covar_pop
    covar_samp corr row_number rank dense_rank percent_rank cume_dist ntile lag lead first_value last_value nth_value
    percentile_cont percentile_disc mode
    coalesce nullif greatest least abs ceil ceiling floor round trunc truncate sign sqrt exp ln log log2 log10 power
    pow mod div pi degrees radians sin cos tan asin acos atan atan2 cot random rand
    lower upper trim ltrim rtrim lpad rpad left right substring substr position overlay replace reverse repeat concat
    concat_ws length char_length character_length octet_length bit_length ascii chr char strcmp md5 sha1 sha2 hex unhex
    format to_base64 from_base64 initcap translate split_part starts_with
    now extract date time timestamp current_date current_time current_timestamp localtime localtimestamp
    user current_user session_user database schema version
"""

_POSTGRESQL: Final = (
    _STANDARD
    + """
    array_agg string_agg json_agg jsonb_agg json_object_agg jsonb_object_agg xmlagg bit_and bit_or bit_xor any_value
    regr_slope regr_intercept regr_count regr_r2 grouping
    cbrt gcd lcm scale min_scale trim_scale factorial width_bucket sinh cosh tanh asinh acosh atanh
    btrim strpos regexp_match regexp_matches regexp_replace regexp_split_to_array regexp_split_to_table regexp_count
    regexp_instr regexp_like regexp_substr string_to_array string_to_table array_to_string quote_ident quote_literal
    quote_nullable encode decode convert convert_from convert_to to_hex to_char to_number to_date to_timestamp
    sha224 sha256 sha384 sha512 get_byte set_byte get_bit set_bit unistr normalize parse_ident
    age clock_timestamp statement_timestamp transaction_timestamp timeofday date_part date_trunc date_bin date_add
    date_subtract isfinite justify_days justify_hours justify_interval make_date make_interval make_time make_timestamp
    make_timestamptz to_regclass to_regtype
    unnest generate_series generate_subscripts array_append array_prepend array_cat array_length array_lower
    array_upper array_ndims array_dims array_position array_positions array_remove array_replace cardinality array_fill
    trim_array
    to_json to_jsonb row_to_json array_to_json json_build_object jsonb_build_object json_build_array jsonb_build_array
    json_object jsonb_object json_array_length jsonb_array_length json_each jsonb_each json_each_text jsonb_each_text
    json_extract_path jsonb_extract_path json_extract_path_text jsonb_extract_path_text json_object_keys
    jsonb_object_keys json_array_elements jsonb_array_elements json_array_elements_text jsonb_array_elements_text
    json_populate_record jsonb_populate_record json_to_record jsonb_to_record json_to_recordset jsonb_to_recordset
    json_typeof jsonb_typeof jsonb_set jsonb_insert jsonb_path_exists jsonb_path_query jsonb_path_query_array
    jsonb_path_query_first jsonb_strip_nulls json_strip_nulls jsonb_pretty json_exists json_query json_value json_table
    to_tsvector to_tsquery plainto_tsquery phraseto_tsquery websearch_to_tsquery ts_rank ts_rank_cd ts_headline
    similarity word_similarity levenshtein soundex
    int4range int8range numrange tsrange tstzrange daterange lower_inc upper_inc lower_inf upper_inf isempty
    range_merge int4 int8 float4 float8 bool
    host hostmask netmask network masklen inet_same_family
    gen_random_uuid uuidv4 uuidv7 uuid_generate_v4 uuid_extract_timestamp
    current_database current_schema current_schemas current_catalog current_role current_setting inet_client_addr
    inet_server_addr pg_backend_pid pg_postmaster_start_time pg_sleep pg_typeof pg_is_in_recovery pg_current_wal_lsn
    pg_last_wal_receive_lsn pg_last_wal_replay_lsn pg_last_xact_replay_timestamp pg_current_xact_id_if_assigned
    pg_current_snapshot pg_visible_in_snapshot pg_xact_status pg_table_is_visible pg_type_is_visible
    pg_function_is_visible pg_get_constraintdef pg_get_expr pg_get_indexdef pg_get_viewdef pg_get_serial_sequence
    pg_get_userbyid pg_get_functiondef pg_get_triggerdef pg_get_keywords pg_relation_size pg_total_relation_size
    pg_table_size pg_indexes_size pg_database_size pg_size_pretty pg_column_size pg_encoding_to_char format_type
    obj_description col_description shobj_description has_table_privilege has_schema_privilege has_column_privilege
    pg_has_role oid regclass regtype
"""
)

_MYSQL: Final = (
    _STANDARD
    + """
    group_concat json_arrayagg json_objectagg std bit_and bit_or bit_xor median any_value
    if ifnull isnull interval conv bin oct crc32
    instr locate find_in_set field elt insert space quote mid ucase lcase substring_index regexp_replace regexp_instr
    regexp_substr regexp_like soundex export_set make_set weight_string convert charset collation coercibility ord
    natural_sort_key
    curdate curtime sysdate utc_date utc_time utc_timestamp unix_timestamp from_unixtime date_add date_sub adddate
    subdate addtime subtime datediff timediff timestampdiff timestampadd date_format time_format str_to_date get_format
    year quarter month monthname week weekofyear weekday yearweek day dayname dayofmonth dayofweek dayofyear hour minute
    second microsecond last_day makedate maketime period_add period_diff sec_to_time time_to_sec to_days to_seconds
    from_days convert_tz
    json_extract json_unquote json_value json_query json_contains json_contains_path json_keys json_length json_type
    json_valid json_object json_array json_quote json_search json_set json_insert json_replace json_remove
    json_merge_patch json_merge_preserve json_depth json_exists json_table json_pretty json_compact json_detailed
    json_loose json_overlaps
    uuid uuid_short sys_guid uuid_to_bin bin_to_uuid is_uuid inet_aton inet_ntoa inet6_aton inet6_ntoa is_ipv4 is_ipv6
    connection_id system_user benchmark sleep is_free_lock is_used_lock
    st_distance st_astext st_geomfromtext st_x st_y st_contains st_within st_intersects point
"""
)

POSTGRESQL = Traces("SELECT WITH VALUES TABLE SHOW EXPLAIN COPY", _POSTGRESQL)
MYSQL = Traces(
    "SELECT WITH VALUES TABLE EXPLAIN DESCRIBE DESC SHOW HELP CHECKSUM ANALYZE",
    _MYSQL,
    r":=|\binto\b|\bsql_calc_found_rows\b|/\*M?!|\bnext\s+value\b|\bprevious\s+value\b",
)
SQLITE = Traces("SELECT WITH VALUES EXPLAIN", None)
