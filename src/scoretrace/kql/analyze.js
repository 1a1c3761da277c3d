// Ask Microsoft's own parser of Kusto about queries.
//
// Standard input is {"tables": {table: {column: type}}, "queries": [text, ...]}; standard output is a list of
// {"diagnostics": [{"start", "severity", "code", "message"}], "columns": [[name, type], ...] or null}, one a query.
// The folder of the package is the first argument.
"use strict";

const fs = require("fs");
const path = require("path");
const vm = require("vm");

const folder = process.argv[2];
for (const name of ["bridge.min.js", "Kusto.Language.Bridge.min.js"]) {
  vm.runInThisContext(fs.readFileSync(path.join(folder, name), "utf8"), { filename: name });
}
const { KustoCode, GlobalState, Symbols } = Kusto.Language;
const listed = (items) => (items ? Bridge.toArray(items) : []);

function globals(tables) {
  const symbols = Object.entries(tables).map(([name, columns]) => {
    const described = Object.entries(columns).map(([column, type]) => `['${column}']: ${type}`).join(", ");
    return Symbols.TableSymbol.From(`(${described})`).WithName(name);
  });
  const database = new Symbols.DatabaseSymbol.$ctor1("telemetry", symbols);
  return GlobalState.Default.WithDatabase(database);
}

function analyzed(text, state) {
  const code = KustoCode.ParseAndAnalyze(text, state);
  const diagnostics = listed(code.GetDiagnostics()).map((found) => ({
    start: found.Start,
    severity: found.Severity,
    code: found.Code,
    message: found.Message,
  }));
  const columns = listed(code.ResultType && code.ResultType.Columns).map((column) => [column.Name, column.Type.Name]);
  return { diagnostics, columns: columns.length ? columns : null };
}

const asked = JSON.parse(fs.readFileSync(0, "utf8"));
const state = globals(asked.tables);
process.stdout.write(JSON.stringify(asked.queries.map((text) => analyzed(text, state))));
