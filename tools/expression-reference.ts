// Writes the lists of `docs/reference/expressions.md` from the tables of the language.
//
//   node --conditions=@ergos/source tools/expression-reference.ts

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DICT_METHODS, FILTERS, FUNCTIONS, LIST_METHODS, TESTS, TEXT_METHODS } from "@ergos/compiler/expression";

export const EXPRESSION_FILE: string = join(import.meta.dirname, "../docs/reference/expressions.md");
const MARK = "<!-- the lists below are written by tools/expression-reference.ts -->";

type Table = typeof FILTERS;

/** The page: what a person wrote, then the lists. */
export function expressionReference(page: string): string {
  const head = page.slice(0, page.indexOf(MARK) + MARK.length);
  const sections: readonly (readonly [string, Table, (name: string, args: string) => string])[] = [
    ["Filters", FILTERS, (name, args) => `value | ${name}${args}`],
    ["Tests", TESTS, (name, args) => `value is ${name}${args}`],
    ["Functions", FUNCTIONS, (name, args) => `${name}${args === "" ? "()" : args}`],
    ["Methods of texts", TEXT_METHODS, (name, args) => `text.${name}${args === "" ? "()" : args}`],
    ["Methods of lists", LIST_METHODS, (name, args) => `list.${name}${args === "" ? "()" : args}`],
    ["Methods of dicts", DICT_METHODS, (name, args) => `dict.${name}${args === "" ? "()" : args}`],
  ];
  const lists = sections.map(([title, table, call]) => {
    const rows = Object.entries(table).map(([name, { args, doc }]) => {
      const list = args.length === 0 ? "" : `(${args.join(", ")})`;
      return `| \`${call(name, list).replaceAll("|", "\\|")}\` | ${doc} |`;
    });
    return [`## ${title}`, "", "| | |", "| --- | --- |", ...rows].join("\n");
  });
  return `${head}\n\n${lists.join("\n\n")}\n`;
}

if (import.meta.main) writeFileSync(EXPRESSION_FILE, expressionReference(readFileSync(EXPRESSION_FILE, "utf8")));
