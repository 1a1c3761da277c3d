"""A query as a tree: statements and sources; `parser_expressions` has the values, `parser_operators` the operators."""

from __future__ import annotations

from typing import Any

from scoretrace.errors import QueryError
from scoretrace.kql import parser_operators
from scoretrace.kql.parser_expressions import ExpressionParser
from scoretrace.kql.syntax import (
    Datatable,
    Expression,
    Function,
    Let,
    Literal,
    Operator,
    Parameter,
    Pipeline,
    Print,
    Query,
    Range,
    Unary,
)

DEPTH = 50  # brackets in brackets: more than queries have, and far from the limit of Python


def parse(text: str) -> Query:
    """
    The tree of a query.

    Raises:
        QuerySyntaxError: it is no Kusto, with the place where that shows.
    """
    try:
        return Parser(text).query()
    except RecursionError as error:
        raise QueryError("the query is nested too deeply") from error


class Parser(ExpressionParser):
    """Goes through the tokens of one query."""

    # Statements.

    def query(self) -> Query:
        """The whole text."""
        options: dict[str, Any] = {}
        lets: list[Let] = []
        body: Expression | None = None
        while self.token.kind != "end":
            if self.skip(";"):
                continue
            if body is not None:
                raise self.unexpected("the end of the query")
            if self.at_word("let"):
                lets.append(self.let())
            elif self.at_word("set"):
                self.take()
                name = self.name()
                options[name] = self.expression() if self.skip("=") else True
            elif self.at_word("declare"):
                lets.extend(self.declared())
            elif self.at_word("alias", "restrict"):
                raise self.places.unsupported(self.token.at, f"the statement {self.token.text}")
            elif self.at_sign("."):
                raise self.places.unsupported(
                    self.token.at, "control commands", "change a database, and there is none here"
                )
            else:
                body = self.pipeline()
            if self.token.kind != "end" and not self.at_sign(";"):
                raise self.unexpected("an operator after |, or the end of the statement")
        if body is None:
            at = lets[-1].at if lets else 0
            raise self.places.syntax(at, "there are only statements and no query" if lets else "the query is empty")
        return Query(self.places.text, options, tuple(lets), body)

    def let(self) -> Let:
        """``let name = value``."""
        self.expect_word("let")
        at = self.token.at
        name = self.name()
        self.expect("=")
        if self.at_word("view") and self.ahead().text == "(":
            self.take()
        if self._at_function():
            return Let(at, name, self.function())
        return Let(at, name, self.pipeline())

    def declared(self) -> list[Let]:
        """``declare query_parameters(name: type = default, ...)``, each as a let with its default."""
        self.expect_word("declare")
        self.expect_word("query_parameters")
        at = self.token.at
        lets = []
        for parameter in self._parameters():
            if parameter.default is None:
                raise self.places.wrong(at, f"the query parameter {parameter.name} has no value")
            lets.append(Let(at, parameter.name, parameter.default))
        return lets

    def _at_function(self) -> bool:
        """Whether ``(...) {`` follows, and not a value in brackets."""
        if not self.at_sign("("):
            return False
        depth = 0
        for index in range(self._index, len(self._tokens)):
            token = self._tokens[index]
            if token.kind == "sign":
                depth += {"(": 1, ")": -1}.get(token.text, 0)
                if depth == 0:
                    return self._tokens[index + 1].text == "{"
        return False

    def function(self) -> Function:
        """``(parameters) { statements; value }``."""
        at = self.token.at
        parameters = self._parameters()
        self.expect("{")
        lets = []
        while self.at_word("let"):
            lets.append(self.let())
            self.expect(";")
        body = self.pipeline()
        self.skip(";")
        self.expect("}")
        return Function(at, parameters, tuple(lets), body)

    def _parameters(self) -> tuple[Parameter, ...]:
        self.expect("(")
        parameters = []
        while not self.at_sign(")"):
            name = self.name()
            self.expect(":")
            if self.at_sign("("):
                parameters.append(Parameter(name, "table", self.row_schema()))
            else:
                kind = self.type_name()
                default = self._constant() if self.skip("=") else None
                parameters.append(Parameter(name, kind, (), default))
            if not self.skip(","):
                break
        self.expect(")")
        return tuple(parameters)

    def _constant(self) -> Literal:
        at = self.token.at
        value = self.expression()
        if isinstance(value, Unary) and isinstance(value.operand, Literal) and value.operator == "-":
            return Literal(at, value.operand.type, -value.operand.value)
        if not isinstance(value, Literal):
            raise self.places.syntax(at, "a default is a literal")
        return value

    def row_schema(self) -> tuple[tuple[str, str], ...]:
        """``(name: type, ...)``; an asterisk in it is the column ``*`` without a type."""
        self.expect("(")
        columns = []
        while not self.at_sign(")"):
            if self.skip("*"):
                columns.append(("*", ""))
            else:
                name = self.name()
                self.expect(":")
                columns.append((name, self.type_name()))
            if not self.skip(","):
                break
        self.expect(")")
        return tuple(columns)

    # Pipelines and what rows come from.

    def pipeline(self) -> Expression:
        """A source and the operators behind it; without any, the source itself."""
        self._depth += 1
        if self._depth > DEPTH:
            raise self.places.wrong(self.token.at, f"brackets are nested deeper than {DEPTH}")
        at = self.token.at
        source = self._source()
        operators = []
        while self.skip("|"):
            operators.append(parser_operators.operator(self))
        self._depth -= 1
        if not operators and not isinstance(source, Operator):
            return source
        return Pipeline(at, source, tuple(operators))

    def _source(self) -> Expression | Operator:
        following = self.ahead()
        if self.token.kind != "name" or following.text in {".", "==", ",", ")"}:
            return self.expression()
        word = self.token.text
        if word == "datatable" and following.text == "(":
            return self._datatable()
        if word == "range" and following.kind == "name" and self.ahead(2).text == "from":
            return self._range()
        if word == "print":
            at = self.take().at
            return Print(at, self.named_list())
        if word == "union" and following.text != "|":
            return parser_operators.operator(self)
        if word in {"search", "find"} and following.text != "|":
            return parser_operators.operator(self)
        if word == "evaluate":
            raise self.places.unsupported(self.token.at, "evaluate without a source")
        return self.expression()

    def _datatable(self) -> Datatable:
        at = self.take().at
        columns = self.row_schema()
        self.expect("[")
        values = []
        while not self.at_sign("]"):
            values.append(self.expression())
            if not self.skip(","):
                break
        self.expect("]")
        if not columns or len(values) % len(columns):
            raise self.places.wrong(at, f"a datatable of {len(columns)} columns cannot have {len(values)} values")
        return Datatable(at, columns, tuple(values))

    def _range(self) -> Range:
        at = self.take().at
        name = self.name()
        self.expect_word("from")
        start = self.expression()
        self.expect_word("to")
        stop = self.expression()
        self.expect_word("step")
        return Range(at, name, start, stop, self.expression())
