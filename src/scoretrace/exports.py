"""Exported telemetry, read back: as typed items one by one, or as tables."""

from __future__ import annotations

import difflib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from scoretrace import compacted, layouts, lines, read, settings, sources, tables
from scoretrace.errors import MissingExtraError, SourceError
from scoretrace.formats import unknown
from scoretrace.item import Item
from scoretrace.moments import When, moment
from scoretrace.optional import installed
from scoretrace.quarantine import Quarantine
from scoretrace.read import Blob
from scoretrace.rows import Reader
from scoretrace.schema import BY_KIND, TABLES, Table
from scoretrace.spool import Spool

if TYPE_CHECKING:
    import duckdb
    from typing_extensions import Self

_NAMES: dict[str, Table] = {
    name.lower(): table
    for table in TABLES
    for name in (table.classic, table.workspace, table.kind, table.folder, *table.folder_aliases)
}
_WORKSPACE = {table.workspace.lower() for table in TABLES}

_LINE = 1024**2  # of a first line that is looked at for keys that are not known
_REMEMBER_SECONDS = 1.0  # a bookmark is written whole each time
Progress = Callable[[int, int], None]


class Summary(NamedTuple):
    """
    What a reading came to.

    *rows* were given, *undated* were left out because they have no time and
    some were asked for, *repeated* had been read before (and were left out where
    that was asked for), *set_aside* is how many lines are no rows, by *reasons*
    and in the files *quarantine*; *unfinished* is of how many blobs the last
    line is not whole yet. *failed* names blobs that could not be read, and why;
    *unknown* has the keys that no column is read from, with how many blobs
    begin with a row that has them.
    """

    blobs: int
    bytes: int
    rows: int
    repeated: int
    set_aside: int
    unfinished: int
    undated: int
    reasons: Mapping[str, int]
    quarantine: tuple[Path, ...]
    failed: Mapping[str, str]
    unknown: Mapping[str, int]


class Held(NamedTuple):
    """What there is of a table in a layout: how many *blobs* of how many *bytes*, of which hours (UTC)."""

    table: str
    layout: str
    blobs: int
    bytes: int
    first: str
    last: str


class Export:
    """
    What `read_export` returns: iterate over it for items, or ask for `relation`, `df`, `pl` or `arrow`.

    Each iteration reads all anew, and `summary` is that of the last one. As a
    context manager, or with `close`, it removes what it fetched to make tables;
    otherwise that stays until the process ends.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | None,
        kinds: frozenset[str],
        window: tuple[datetime | None, datetime | None],
        *,
        drop_repeats: bool,
        bookmark: Path | None,
        credential: Any,
        quarantine: Path,
        progress: Progress | None,
    ) -> None:
        self._source = source
        self._kinds = kinds
        self._window = window
        self._drop_repeats = drop_repeats
        self._bookmark = bookmark
        self._credential = credential
        self._quarantine = quarantine
        self._progress = progress
        self._offsets = _offsets(bookmark)
        self._blobs: list[Blob] | None = None  # of tables, all here
        self._spool = Spool()
        self._begin()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove what was fetched for tables."""
        self._spool.close()
        self._blobs = None

    def _begin(self) -> None:
        aside = Quarantine(self._quarantine)
        self._reader = Reader(self._kinds, self._window, aside, drop_repeats=self._drop_repeats)
        self._failed: dict[str, str] = {}
        self._read, self._bytes = 0, 0
        self._asked: list[Table] = []  # tables, of which nothing was counted while they were made

    def __iter__(self) -> Iterator[Item]:
        """The items, in the order of hours and blobs; within a blob, in its own."""
        self._begin()
        remembered = time.monotonic()
        try:
            for blob in self._found():
                yield from self._items(blob)
                if time.monotonic() - remembered > _REMEMBER_SECONDS:
                    self.remember()
                    remembered = time.monotonic()
        finally:
            self.remember()

    def _items(self, blob: Blob) -> Iterator[Item]:
        offset = self._offsets.get(blob.name, 0)
        packed = _is_packed(blob.path)
        # Of what is packed, or is another blob of that name, nothing can be left out.
        start = 0 if packed or offset > blob.size else offset
        place: dict[str, int] = {}
        try:
            for items in self._reader.items(blob, start, lambda end: place.update(end=end)):
                yield from items
                del items
            if packed:
                place = {"end": blob.size}
        except OSError as error:
            self._failed[blob.name] = str(error)
        finally:
            if self._bookmark is not None and place and (not packed or place["end"] == blob.size):
                self._offsets[blob.name] = place["end"]
        self._read += 1
        self._bytes += blob.size - start
        if self._progress is not None:
            self._progress(self._read, self._bytes)

    @property
    def summary(self) -> Summary:
        """What the last iteration, or `examine`, came to so far; of tables that were asked for, `examine` is asked."""
        if self._asked:
            return self._examined(tuple(self._asked))
        aside = self._reader.quarantine
        return Summary(
            self._read,
            self._bytes,
            self._reader.rows,
            self._reader.repeated,
            aside.counts.total(),
            len(self._reader.unfinished),
            self._reader.undated,
            dict(aside.reasons),
            tuple(aside.files.values()),
            {**self._failed, **self._spool.failed, **({str(self._quarantine): aside.failed} if aside.failed else {})},
            dict(self._reader.unknown),
        )

    def relation(
        self, table: str | None = None, *, connection: duckdb.DuckDBPyConnection | None = None
    ) -> duckdb.DuckDBPyRelation:
        """
        The rows of *table* as a DuckDB relation, read when it is asked for its rows.

        *table* is a classic name (``traces``), whose columns then are those of
        the classic tables, or a workspace name (``AppTraces``); it may be left
        out where only one was asked for. Times keep their 100 ns, dynamic
        columns are JSON, and ``unparsed`` has what a column could not take.

        Raises:
            ValueError: there is no such table.
            SourceError: what is there cannot be had.
            MissingExtraError: DuckDB is not installed.
        """
        self._spool.keep()
        rows: duckdb.DuckDBPyRelation = self._relation(table, connection or _duckdb().default_connection())
        return rows

    def _relation(self, table: str | None, connection: Any) -> Any:
        chosen = self._table(table)
        if chosen not in self._asked:
            self._asked.append(chosen)
        rows = self._select(chosen)
        if self._drop_repeats:
            rows = tables.without_repeats(chosen, rows)
        if table is not None and table.lower() in _WORKSPACE:
            rows = tables.as_workspace(chosen, rows)
        return connection.sql(rows)

    def df(self, table: str | None = None) -> Any:
        """The rows of *table* as a pandas DataFrame; see `relation`."""
        installed("pandas", "Export.df()")
        return self._relation(table, _duckdb().default_connection()).df()

    def pl(self, table: str | None = None) -> Any:
        """The rows of *table* as a polars DataFrame; see `relation`."""
        installed("polars", "Export.pl()")
        return self._relation(table, _duckdb().default_connection()).pl()

    def arrow(self, table: str | None = None) -> Any:
        """The rows of *table* as a pyarrow Table; see `relation`."""
        installed("pyarrow", "Export.arrow()")
        return self._relation(table, _duckdb().default_connection()).to_arrow_table()

    def to_parquet(self, folder: str | os.PathLike[str]) -> list[Path]:
        """
        Write each table that has rows to ``<folder>/<table>.parquet``, and return the files.

        A file is there when it is whole.
        """
        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        written = []
        with _duckdb().connect() as connection:
            for table in [table for table in TABLES if table.kind in self._kinds]:
                rows = self._relation(table.classic, connection)
                if not rows.limit(1).fetchall():
                    continue
                path = place / f"{table.classic}.parquet"
                beside = path.with_name(f".{path.name}.{os.getpid()}")
                try:
                    rows.write_parquet(str(beside))
                    beside.replace(path)
                finally:
                    beside.unlink(missing_ok=True)
                written.append(path)
        return written

    def examine(self, table: str | None = None) -> Summary:
        """
        What reading *table* comes to, without its rows: a second look at the same files.

        Lines that are no rows are set aside. Raises what `relation` does.
        """
        return self._examined((self._table(table),))

    def _examined(self, chosen: tuple[Table, ...]) -> Summary:
        self._begin()
        kinds = {table.kind for table in chosen}
        blobs = [blob for blob in self._here() if blob.table is None or blob.table.kind in kinds]
        parts, line_bytes = self.parts()
        with _duckdb().connect() as connection:
            rows, repeated, undated = 0, 0, 0
            for table in chosen:
                found = connection.execute(
                    f"SELECT count(*), count(*) - count(DISTINCT {tables.key_of(table)}) FROM ({self._select(table)})"
                ).fetchone() or (0, 0)
                rows, repeated = rows + found[0], repeated + found[1]
                if self._window != (None, None):
                    everything = tables.select(table, parts, line_bytes=line_bytes)
                    query = f"SELECT count(*) FROM ({everything}) WHERE timestamp IS NULL"
                    undated += (connection.execute(query).fetchone() or (0,))[0]
            wanted = [part for part in parts if part.table is None or part.table.kind in kinds]
            suspects = tables.unreadable(connection, wanted, line_bytes)
        self._look_at(suspects, self._reader.quarantine)
        self._reader.unfinished |= self._spool.unfinished
        for blob in blobs:
            with suppress(OSError), lines.opened(blob.path) as file:
                self._reader.unknown.update(unknown.keys(file.readline(_LINE).removeprefix(lines.BOM)))
        self._read, self._bytes = len(blobs), sum(blob.size for blob in blobs)
        self._reader.undated = undated
        self._reader.rows = rows - repeated if self._drop_repeats else rows
        return self.summary._replace(repeated=repeated)

    def held(self) -> list[Held]:
        """What there is, by table and layout, as far as paths and first lines say; nothing is fetched."""
        if sources.is_remote(self._source):
            found: Iterable[tuple[str, str, int, str]] = (
                (place.table.classic if place.table else "", place.layout, entry.size, place.hour)
                for entry, place in self.listed()[1]
            )
        else:
            found = (
                (blob.table.classic if blob.table else "", blob.layout, blob.size, blob.hour) for blob in self._here()
            )
        groups: dict[tuple[str, str], list[tuple[int, str]]] = {}
        for table, layout, size, hour in found:
            groups.setdefault((table, layout), []).append((size, hour))
        return [
            Held(*name, len(of), sum(size for size, _ in of), min(hours, default=""), max(hours, default=""))
            for name, of in sorted(groups.items())
            for hours in [[hour for _, hour in of if hour]]
        ]

    def parts(self) -> tuple[list[tables.Part], int]:
        """What `tables` makes views of, and how long their longest line may be."""
        if self._bookmark is not None:
            return self._spool.parts(self._here(), self._offsets), self._spool.line_bytes
        kept, blobs = compacted.parts(self._here())
        return kept + self._spool.parts(blobs), self._spool.line_bytes

    def unreadable(self, kinds: Iterable[str]) -> dict[str, int]:
        """How many lines of which blobs with rows of *kinds* are none; nothing is set aside."""
        wanted = set(kinds)
        parts, line_bytes = self.parts()
        with _duckdb().connect() as connection:
            used = [part for part in parts if part.table is None or part.table.kind in wanted]
            aside = Quarantine(None)
            self._look_at(tables.unreadable(connection, used, line_bytes), aside)
        return dict(aside.counts)

    def _look_at(self, suspects: Iterable[str], aside: Quarantine) -> None:
        """Set aside what cannot be read of files that DuckDB passed lines over in."""
        for path in {*suspects, *(str(path) for path in self._spool.shortened)}:
            blob = self._spool.blobs[path]
            other = Reader(frozenset(BY_KIND), (None, None), aside, each=True)
            for _ in other.items(blob, max(self._offsets.get(blob.name, 0), blob.base), lambda _: None):
                pass
            self._reader.unfinished |= other.unfinished

    def remember(self) -> None:
        """
        Write to the bookmark how far was read, so that the next reading goes on there.

        An iteration does so by itself, once a second at the most and at its end.
        """
        if self._bookmark is None:
            return
        self._offsets.update(self._spool.ends)
        beside = self._bookmark.with_name(f".{self._bookmark.name}.{os.getpid()}")
        beside.write_bytes(msgspec.json.encode({"offsets": self._offsets}))
        beside.replace(self._bookmark)

    def blobs(self) -> list[Blob]:
        """The blobs that may have rows of what was asked for, which are on this machine then."""
        return list(self._here())

    def _found(self, keep: Path | None = None) -> Iterator[Blob]:
        """The blobs with something new, one after the other; those of a container stay in *keep*, if at all."""
        if not sources.is_remote(self._source):
            for blob in read.find(self._source, self._kinds, self._window):
                if self._offsets.get(blob.name) != blob.size:
                    yield blob
            return
        from scoretrace.downloads import ahead

        # What could not be fetched for tables stays so, however often they are looked at.
        failures = self._failed if keep is None else self._spool.failed

        def failed(name: str, error: Exception) -> None:
            failures[name] = str(error)

        container, found = self.listed()
        yield from ahead(container, found, offsets=self._offsets, failed=failed, keep=keep)

    def listed(self) -> tuple[Any, Iterator[Any]]:
        """The container that is read, and its blobs with something new."""
        from scoretrace.container import Container

        container = Container(os.fspath(self._source or ""), self._credential)
        start = container.start
        one = container.one(start) if start.endswith(layouts.SUFFIXES) else None
        if one is not None:
            return container, iter([(one, layouts.of(one.name))])
        found = list(sources.of_container(container, start, self._kinds, self._window))
        if not found and not sources.looks_like_exports(container, start):
            raise SourceError(f"there are no exports in {container.shown}: known are {layouts.KNOWN}")
        return container, (entry for entry in found if self._offsets.get(entry[0].name) != entry[0].size)

    def _here(self) -> list[Blob]:
        if self._blobs is None:
            self._blobs = list(self._found(self._spool.folder if sources.is_remote(self._source) else None))
        return self._blobs

    def _select(self, table: Table) -> str:
        since, until = (None if when is None else when.isoformat() for when in self._window)
        parts, line_bytes = self.parts()
        return tables.select(table, parts, (since, until), line_bytes)

    def _table(self, name: str | None) -> Table:
        if name is None:
            if len(self._kinds) != 1:
                raise ValueError("name a table, such as traces: more than one was asked for")
            return BY_KIND[next(iter(self._kinds))]
        return _named(name)


def read_export(
    source: str | os.PathLike[str] | None = None,
    *,
    tables: str | Iterable[str] | None = None,
    since: When = None,
    until: When = None,
    drop_repeats: bool = False,
    bookmark: str | os.PathLike[str] | None = None,
    credential: Any = None,
    quarantine: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Export:
    """
    Exported telemetry of Application Insights: iterate over it for items, or ask it for tables.

        for item in scoretrace.read_export("archive", tables="traces", since="7d"):
            print(item.timestamp, item.message)
        scoretrace.read_export("archive").df("requests")

    *source* is a home, a folder below which exports lie in any layout that
    `layouts` knows, one file, or the URL of a container
    (``https://<account>.blob.core.windows.net/<container>/<prefix>``) or of an
    account. What signs for a URL is its SAS, *credential* (an object of
    azure-identity, an account key, a SAS, or a connection string), or the
    settings storage and credential. *tables* are classic names (``traces``),
    workspace names (``AppTraces``), or folders of a continuous export.

    *since* and *until* are times of the rows: dates or times in UTC, ISO 8601
    text, or how long ago (a timedelta, "6h", "7d"); from, and before. Folders
    are left out by their names, with 48 hours to spare where they are filed by
    delivery. *drop_repeats* leaves out what was exported twice, by item id, or by
    the whole row where it has none. With *bookmark*, a file, only what came
    after the last reading with it is read.
    Tables of a container are fetched to the temporary folder first. Lines that cannot be read are
    written to the folder *quarantine*, without it to state/quarantine of the home.
    *progress* is called after each blob with the blobs and bytes read so far.

    Raises:
        SourceError: there is no such place, no exports are in it, or it may not be read: now for what
            is on this machine, when it is read for a container.
        ValueError: there is no such table, or *since* or *until* is no time.
    """
    names = [tables] if isinstance(tables, str) else tables
    kinds = frozenset(BY_KIND if names is None else (_named(name).kind for name in names))
    window = (moment(since), moment(until))
    if window[0] is not None and window[1] is not None and window[0] >= window[1]:
        raise ValueError(f"there is nothing between since and until: {since} is not before {until}")
    if bookmark is not None and window[1] is not None:
        raise ValueError("until and bookmark do not go together: what is later would count as read")
    if not sources.is_remote(source):
        place = sources.local(source)
        folder = place if (place / "state").is_dir() else settings.home()
        read.find(source, kinds, window)  # now, for whoever mistyped the path
    else:
        folder = settings.home()
    return Export(
        source,
        kinds,
        window,
        drop_repeats=drop_repeats,
        bookmark=None if bookmark is None else Path(bookmark),
        credential=credential,
        quarantine=Path(quarantine) if quarantine is not None else folder / "state" / "quarantine",
        progress=progress,
    )


def _named(name: str) -> Table:
    table = _NAMES.get(name.strip().lower())
    if table is None:
        near = difflib.get_close_matches(name.lower(), _NAMES, n=1)
        hint = f"did you mean {_NAMES[near[0]].classic}?" if near else ", ".join(table.classic for table in TABLES)
        raise ValueError(f"there is no table {name}: {hint}")
    return table


def _offsets(bookmark: Path | None) -> dict[str, int]:
    if bookmark is None or not bookmark.exists():
        return {}
    try:
        return dict(msgspec.json.decode(bookmark.read_bytes(), type=dict[str, dict[str, int]])["offsets"])
    except (msgspec.MsgspecError, KeyError) as error:
        raise SourceError(f"{bookmark} is no bookmark: remove it to begin anew") from error


def _duckdb() -> Any:
    try:
        return import_module("duckdb")
    except ImportError as error:
        raise MissingExtraError("reading exports as tables", "query") from error


def _is_packed(path: Path) -> bool:
    try:
        with path.open("rb", buffering=0) as file:
            return file.read(2) == lines.GZIP
    except OSError:
        return False
