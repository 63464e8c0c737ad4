// Terminal output: for people on a terminal, stable JSON with `--json`.

import { styleText } from "node:util";

type Style = Parameters<typeof styleText>[0];

export interface Output {
  readonly isTerminal: boolean;
  readonly isJson: boolean;
  /** A line for people; left out with `--json`. */
  line(text?: string): void;
  /** The command's answer: JSON with `--json`, else what `text` makes of it. */
  answer<T>(value: T, text: (value: T) => string): void;
  /** With `--json`: the answers from now on are one list, which `end` writes. For commands that answer for each of several. */
  gather(): void;
  end(): void;
  /** Replaces the progress line; on a terminal only. */
  progress(text: string): void;
  clearProgress(): void;
  /** A line on stderr. */
  error(text: string): void;
  style(style: Style, text: string): string;
}

export function createOutput(
  isJson: boolean,
  stdout: NodeJS.WriteStream = process.stdout,
  stderr: NodeJS.WriteStream = process.stderr,
): Output {
  const isTerminal = stdout.isTTY && stderr.isTTY && !isJson;
  let hasProgress = false;
  let gathered: unknown[] | undefined;
  const clearProgress = (): void => {
    if (!hasProgress) return;
    stderr.write("\r\u001B[2K");
    hasProgress = false;
  };
  const print = (text: string): void => {
    clearProgress();
    stdout.write(text.endsWith("\n") || text === "" ? text : `${text}\n`);
  };
  return {
    isTerminal,
    isJson,
    line: (text = "") => {
      if (!isJson) print(`${text}\n`);
    },
    answer: (value, text) => {
      if (isJson && gathered !== undefined) gathered.push(value);
      else print(isJson ? JSON.stringify(value) : text(value));
    },
    gather: () => {
      if (isJson) gathered ??= [];
    },
    end: () => {
      const all = gathered;
      gathered = undefined;
      if (all !== undefined) print(JSON.stringify(all));
    },
    progress: (text) => {
      if (!isTerminal) return;
      const width = stderr.columns > 20 ? stderr.columns - 1 : 79;
      stderr.write(`\r\u001B[2K${text.length > width ? text.slice(0, width) : text}`);
      hasProgress = true;
    },
    clearProgress,
    error: (text) => {
      clearProgress();
      stderr.write(`${text}\n`);
    },
    // `styleText` leaves colours out where NO_COLOR is set or nobody looks.
    style: (style, text) => (isJson ? text : styleText(style, text, { stream: stdout })),
  };
}

/** Columns padded to their widest cell. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_cell, column) => Math.max(...rows.map((row) => (row[column] ?? "").length)));
  return rows
    .map((row) =>
      row
        .map((cell, column) => (column === row.length - 1 ? cell : cell.padEnd(widths[column] ?? 0)))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

export const formatCount = (count: number): string => count.toLocaleString("en-US");

export function formatMs(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`;
  return `${Math.floor(ms / 60_000)} min ${Math.round((ms % 60_000) / 1000)} s`;
}
