"""Calls of functions: of the query's own, of a summarize, or of Kusto's."""

from __future__ import annotations

from scoretrace.kql import aggregates, forms, functions, invocations, times, values, windows
from scoretrace.kql.relations import Scope
from scoretrace.kql.syntax import Call
from scoretrace.kql.values import Value

# They exist in Kusto, and would have to be guessed here.
REFUSED = frozenset([
    "array_iff", "array_iif", "array_rotate_left", "array_rotate_right", "array_shift_left", "array_shift_right",
    "array_split", "assert", "bag_set_key", "bag_zip", "base64_decode_toarray", "base64_decode_toguid",
    "base64_encode_fromarray", "base64_encode_fromguid", "beta_cdf", "beta_inv", "beta_pdf", "bitset_count_ones",
    "cursor_after", "cursor_before_or_at", "current_cluster_endpoint", "current_database", "current_principal",
    "current_principal_details", "current_principal_is_member_of", "datetime_list_timezones",
    "datetime_local_to_utc", "datetime_utc_to_local", "dcount_hll", "dynamic_to_json", "endofperiod", "erf",
    "erfc", "estimate_data_size", "extent_id", "extent_tags", "format_bytes", "format_ipv4", "format_ipv4_mask",
    "gamma", "geo_distance_2points", "geo_point_in_circle", "geo_point_in_polygon", "geo_point_to_geohash",
    "geo_point_to_s2cell", "gettimezone", "gzip_compress_to_base64_string", "has_any_index", "has_any_ipv4",
    "has_any_ipv4_prefix", "has_ipv4", "has_ipv4_prefix", "hash", "hash_combine", "hash_many", "hash_xxhash64",
    "hll_merge", "ingestion_time", "ipv4_compare", "ipv4_is_in_any_range", "ipv4_is_in_range", "ipv4_is_match",
    "ipv4_is_private", "ipv4_netmask_suffix", "ipv6_compare", "ipv6_is_match", "isutf8", "jaccard_index",
    "loggamma", "make_string", "new_guid", "parse_command_line", "parse_csv", "parse_ipv4", "parse_ipv4_mask",
    "parse_ipv6", "parse_ipv6_mask", "parse_path", "parse_url", "parse_urlquery", "parse_user_agent",
    "parse_version", "parse_xml", "percentile_tdigest", "percentrank_tdigest", "punycode_from_string",
    "punycode_to_string", "rand", "rank_tdigest", "regex_quote", "replace_strings", "row_window_session",
    "series_abs", "series_add", "series_decompose", "series_decompose_anomalies", "series_decompose_forecast",
    "series_divide", "series_dot_product", "series_equals", "series_fft", "series_fill_backward",
    "series_fill_const", "series_fill_forward", "series_fill_linear", "series_fir", "series_fit_2lines",
    "series_fit_line", "series_fit_poly", "series_greater", "series_iir", "series_less", "series_multiply",
    "series_not_equals", "series_outliers", "series_pearson_correlation", "series_periods_detect",
    "series_periods_validate", "series_seasonal", "series_sign", "series_stats", "series_stats_dynamic",
    "series_subtract", "tdigest_merge", "to_utf8", "todecimal", "translate", "treepath",
    "unicode_codepoints_from_string", "unicode_codepoints_to_string", "unixtime_nanoseconds_todatetime",
    "url_decode_component", "url_encode_component", "url_encode_form", "welch_test",
    "zlib_compress_to_base64_string",
])  # fmt: skip
_FORMS = {**forms.FORMS, **times.FORMS, **windows.FORMS}
NAMES = frozenset({*functions.SCALARS, *functions.CONVERTING, *functions.ALIASES, *_FORMS})


def call(node: Call, scope: Scope) -> Value:
    """
    The value of a function.

    Raises:
        QueryError: there is none of that name, it is not supported, or it does not take these arguments.
    """
    bound = scope.names.find(node.name)
    if bound is not None and bound.function is not None:
        return invocations.scalar(node, bound, scope)
    if any(node.names) and node.name not in {"arg_max", "arg_min"}:
        raise scope.places.unsupported(node.at, f"calling {node.name}() with names of its arguments")
    if node.name in aggregates.NAMES:
        if scope.aggregates is None:
            raise scope.places.wrong(node.at, f"the aggregate {node.name}() stands outside of a summarize")
        found: Value = scope.aggregates(node)
        return found
    name = functions.ALIASES.get(node.name, node.name)
    if name in _FORMS:
        return values.filled(_FORMS[name](node, scope))
    if name in functions.CONVERTING:
        return functions.converted(node, functions.CONVERTING[name], scope)
    if name in functions.SCALARS:
        return functions.plain(node, functions.SCALARS[name], scope)
    if node.name in REFUSED or node.name in aggregates.REFUSED:
        raise scope.places.unsupported(node.at, f"{node.name}()")
    raise scope.places.unknown(node.at, "function", f"{node.name}()", [f"{known}()" for known in NAMES])
