"""Answers as charts: in a notebook, and as lines of text."""

import pytest

import scoretrace
from scoretrace import QueryError, charts

OVER_TIME = (
    'datatable(t: datetime, name: string, n: long)[datetime(2026-01-01), "a", 1, datetime(2026-01-02), "a", 3, '
    'datetime(2026-01-01), "b", 5, datetime(2026-01-02), "b", 2] '
)
BY_NAME = 'datatable(name: string, n: long)["left", 4, "right", 8] '


@pytest.mark.parametrize(
    ("query", "kind", "artists"),
    [
        (f"{OVER_TIME}| render timechart with (title='rate')", "timechart", "lines"),
        (f"{OVER_TIME}| render linechart", "linechart", "lines"),
        (f"{OVER_TIME}| render areachart with (kind=stacked)", "areachart", "collections"),
        (f"{OVER_TIME}| render scatterchart", "scatterchart", "collections"),
        (f"{OVER_TIME}| render columnchart with (kind=stacked, series=name)", "columnchart", "patches"),
        (f"{BY_NAME}| render barchart", "barchart", "patches"),
        (f"{BY_NAME}| render columnchart", "columnchart", "patches"),
        (f"{BY_NAME}| render piechart", "piechart", "patches"),
        (
            "range x from 0 to 9 step 1 | make-series s = sum(x) on x from 0 to 10 step 2 | render linechart",
            "linechart",
            "lines",
        ),
    ],
)
def test_what_a_query_renders_is_drawn(query, kind, artists, tmp_path):
    """Each kind, with what it draws in it, as a figure that can be saved."""
    result = scoretrace.query(query)

    figure = result.chart()

    assert result.rendering.kind == kind
    (axes,) = figure.axes
    assert len(getattr(axes, artists)) > 0
    figure.savefig(tmp_path / "chart.png")
    assert (tmp_path / "chart.png").stat().st_size > 1_000


def test_a_notebook_is_given_a_picture():
    """Also where nothing of pyplot was used before."""
    picture = scoretrace.query(f"{BY_NAME}| render barchart").chart()._repr_png_()

    assert picture.startswith(b"\x89PNG")


def test_series_are_told_apart_by_text_and_by_columns():
    """By a column of text, or by the columns of numbers, or by what the query says."""
    by_text = charts.chart_of(scoretrace.query(f"{OVER_TIME}| render timechart"))
    by_column = charts.chart_of(scoretrace.query(f"{BY_NAME}| extend m = n * 2 | render columnchart"))
    said = charts.chart_of(scoretrace.query(f"{BY_NAME}| extend m = n * 2 | render columnchart with (ycolumns=m)"))

    assert [(one.name, one.y) for one in by_text.series] == [("a", [1, 3]), ("b", [5, 2])]
    assert [(one.name, one.y) for one in by_column.series] == [("n", [4, 8]), ("m", [8, 16])]
    assert [(one.name, one.y) for one in said.series] == [("m", [8, 16])]


def test_without_render_the_columns_suggest_a_chart():
    """Times make a timechart; another kind may be asked for."""
    assert charts.chart_of(scoretrace.query(OVER_TIME)).kind == "timechart"
    assert charts.chart_of(scoretrace.query(BY_NAME)).kind == "columnchart"
    assert charts.chart_of(scoretrace.query(BY_NAME), "piechart").kind == "piechart"


@pytest.mark.parametrize(
    ("query", "kind", "said"),
    [
        (BY_NAME, "starchart", "there is no chart starchart"),
        (BY_NAME, "timechart", "needs a column of times"),
        ("print a = 'x'", None, "no column of numbers"),
    ],
)
def test_what_cannot_be_drawn_is_said(query, kind, said):
    """By name."""
    with pytest.raises(QueryError, match=said):
        scoretrace.query(query).chart(kind)


def test_a_chart_is_lines_of_text_too():
    """Blocks over time, bars for values, within the width."""
    over_time = charts.lines(scoretrace.query(f"{OVER_TIME}| render timechart with (title='rate')"), 80)
    bars = charts.lines(scoretrace.query(f"{BY_NAME}| render barchart"), 60)
    many = charts.lines(
        scoretrace.query(
            "range t from datetime(2026-01-01) to datetime(2026-03-01) step 1h | extend n = 1 | render timechart"
        ),
        80,
    )

    assert over_time[0] == "rate"
    assert over_time[1].split() == ["a", "▁█", "1", "to", "3"]
    assert [line.count("█") for line in bars] == [bars[1].count("█") // 2, bars[1].count("█")]
    assert bars[1].count("█") > 20
    assert max(len(line) for line in [*over_time, *bars, *many]) <= 80


def test_an_answer_without_rows_makes_an_empty_chart():
    """And no line of text."""
    result = scoretrace.query(f"{BY_NAME}| where n > 100 | render barchart")

    assert result.chart().axes
    assert charts.lines(result, 80) == []
