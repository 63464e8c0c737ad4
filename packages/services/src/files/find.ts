// Finding files by their paths, and lines by what is in them. What may not be seen is not found.

import { type DirEntry, type EntryType, type Files, KernelError, compileGlob, isKernelError } from "@ergos/kernel";

export interface GlobOptions {
  /** As many are found at most (default 10,000). */
  readonly limit?: number;
  readonly signal?: AbortSignal;
}

export interface Found {
  readonly path: string;
  readonly type: EntryType;
}

export interface GrepOptions extends GlobOptions {
  /** A regular expression of RE2: its time is linear in the text, whoever wrote it. */
  readonly pattern: string;
  /** Paths of the files that are searched. */
  readonly glob: string;
  readonly ignoreCase?: boolean;
  /** Lines before and behind that are given along. */
  readonly context?: number;
}

export interface Match {
  readonly path: string;
  /** From 1. */
  readonly line: number;
  /** The line; one of over 1,000 characters is cut off there. */
  readonly text: string;
  readonly before?: readonly string[];
  readonly after?: readonly string[];
}

const LIMIT = 10_000;
/** Entries that one search looks at. */
const ENTRIES_MAX = 1_000_000;
const PAGE = 1000;
const CHUNK = 1024 * 1024;
const TEXT_MAX = 1000;
/** Characters of a line that are looked at: a match at its end is one at the cut. */
const LINE_MAX = 256 * 1024;
/** Milliseconds of matching after which others have their turn. */
const TURN_MS = 8;
/** Bytes at the beginning of a file that tell whether it is text. */
const LOOKED_AT = 4096;

/** Entries whose paths match a glob (`*`, `**`, `?`, `{a,b}`), in the order of their names; walks only where a match can be. */
export async function* globFiles(
  files: Pick<Files, "readdir">,
  pattern: string,
  { limit, signal }: GlobOptions = {},
): AsyncGenerator<Found, void, undefined> {
  const most = atMost(limit);
  const absolute = pattern.startsWith("/") ? pattern : `/${pattern}`;
  const globs = alternativesOf(absolute);
  const matchers = globs.map(compileGlob);
  const matches = (path: string): boolean => matchers.some((one) => one(path));
  let left = ENTRIES_MAX;
  const walk = async function* (
    directory: string,
    level: number,
    depth: number,
  ): AsyncGenerator<Found, void, undefined> {
    for await (const { name, type } of entriesOf(files, directory)) {
      signal?.throwIfAborted();
      if (left-- === 0)
        throw new KernelError("E2BIG", `more than ${ENTRIES_MAX} entries were looked at; begin the glob deeper`);
      const path = `${directory === "/" ? "" : directory}/${name}`;
      if (matches(path)) yield { path, type };
      if (type === "directory" && level < depth) yield* walk(path, level + 1, depth);
    }
  };
  let found = 0;
  for (const { root, depth } of walksOf(globs)) {
    const level = root === "/" ? 1 : root.split("/").length;
    for await (const entry of walk(root, level, depth)) {
      assertRoom(found, limit, pattern);
      yield entry;
      if (++found >= most) return;
    }
  }
}

const ALTERNATIVES_MAX = 256;

/** Globs without braces that together match what one with them does: `{ts,js}` is one or the other, `{x}` is itself. */
function alternativesOf(glob: string): readonly string[] {
  const done: string[] = [];
  const left = [glob];
  for (let at = left.pop(); at !== undefined; at = left.pop()) {
    // The innermost first: of those in each other each is taken in its turn.
    const found = /\{([^{}]*,[^{}]*)\}/.exec(at);
    const [whole = "", list = ""] = found ?? [];
    if (found === null) done.push(at);
    else {
      const { index } = found;
      const [before, behind] = [at.slice(0, index), at.slice(index + whole.length)];
      left.push(...list.split(",").map((one) => `${before}${one}${behind}`));
    }
    if (left.length + done.length > ALTERNATIVES_MAX)
      throw new KernelError("EINVAL", `the braces of ${glob} stand for more than ${ALTERNATIVES_MAX} globs`);
  }
  return done;
}

/** The directory that all that a glob finds lies below. */
function rootOf(glob: string): string {
  const segments = glob.split("/").slice(1);
  const fixed = segments.findIndex((segment) => /[*?]/.test(segment));
  return `/${(fixed < 0 ? segments.slice(0, -1) : segments.slice(0, fixed)).join("/")}`;
}

/** Directories to walk, in their order, each with how deep; none lies in another. */
function walksOf(globs: readonly string[]): readonly { readonly root: string; readonly depth: number }[] {
  const isIn = (path: string, top: string): boolean => path === top || path.startsWith(top === "/" ? top : `${top}/`);
  const roots = [...new Set(globs.map(rootOf))].sort();
  return roots
    .filter((root) => !roots.some((other) => other !== root && isIn(root, other)))
    .map((root) => ({ root, depth: Math.max(...globs.filter((glob) => isIn(rootOf(glob), root)).map(depthOf)) }));
}

const depthOf = (glob: string): number => {
  const segments = glob.split("/").slice(1);
  return segments.includes("**") ? Number.POSITIVE_INFINITY : segments.length;
};

function atMost(limit = Number.POSITIVE_INFINITY): number {
  if (limit >= 1) return limit;
  throw new KernelError("EINVAL", `limit is a number of at least 1, found ${limit}`);
}

/** Who has not said how many is not given a part as if it were the whole. */
function assertRoom(found: number, limit: number | undefined, pattern: string): void {
  if (limit === undefined && found === LIMIT)
    throw new KernelError(
      "E2BIG",
      `more than ${LIMIT} were found for ${JSON.stringify(pattern)}; look for less, or give a limit to take the first`,
    );
}

/**
 * Lines that match, in all files whose paths do.
 * @throws {EINVAL} the pattern is no regular expression of RE2
 */
export async function* grepFiles(
  files: Pick<Files, "readdir" | "read">,
  { pattern, glob, ignoreCase = false, context = 0, limit, signal }: GrepOptions,
): AsyncGenerator<Match, void, undefined> {
  const most = atMost(limit);
  const matches = await compilePattern(pattern, ignoreCase);
  let found = 0;
  const options = { limit: ENTRIES_MAX, ...(signal === undefined ? {} : { signal }) };
  for await (const { path, type } of globFiles(files, glob, options)) {
    if (type !== "file") continue;
    for await (const match of matchesIn(files, path, matches, context, signal)) {
      assertRoom(found, limit, pattern);
      yield match;
      if (++found >= most) return;
    }
  }
}

async function compilePattern(pattern: string, ignoreCase: boolean): Promise<(line: string) => boolean> {
  const { RE2JS } = await import("re2js");
  try {
    const compiled = RE2JS.compile(pattern, ignoreCase ? RE2JS.CASE_INSENSITIVE : 0);
    return (line) => compiled.matcher(line).find();
  } catch (error) {
    throw new KernelError(
      "EINVAL",
      `${JSON.stringify(pattern)} is no regular expression of RE2: ${error instanceof Error ? error.message : String(error)}`,
      { cause: error },
    );
  }
}

async function* matchesIn(
  files: Pick<Files, "read">,
  path: string,
  matches: (line: string) => boolean,
  context: number,
  signal: AbortSignal | undefined,
): AsyncGenerator<Match, void, undefined> {
  const before: string[] = [];
  /** Matches that still wait for lines behind them. */
  const open: { readonly match: Match; readonly after: string[] }[] = [];
  const closed = function* (all: boolean): Generator<Match, void, undefined> {
    for (let first = open[0]; first !== undefined && (all || first.after.length >= context); first = open[0]) {
      open.shift();
      yield context === 0 ? first.match : { ...first.match, after: first.after };
    }
  };
  let line = 0;
  let since = performance.now();
  for await (const whole of linesOf(files, path)) {
    // Matching is work of this host's loop, which is there for others too.
    if (performance.now() - since > TURN_MS) {
      await new Promise((go) => setImmediate(go));
      since = performance.now();
      signal?.throwIfAborted();
    }
    line++;
    const text = whole.slice(0, TEXT_MAX);
    for (const { after } of open) if (after.length < context) after.push(text);
    yield* closed(false);
    if (matches(whole)) {
      open.push({ match: { path, line, text, ...(context === 0 ? {} : { before: [...before] }) }, after: [] });
      yield* closed(false);
    }
    if (context > 0 && before.push(text) > context) before.shift();
  }
  yield* closed(true);
}

/** Lines of a text; a binary file, and one that went away or may not be read, has none. */
async function* linesOf(files: Pick<Files, "read">, path: string): AsyncGenerator<string, void, undefined> {
  const decoder = new TextDecoder();
  let rest = "";
  for (let offset = 0; ;) {
    let bytes: Uint8Array;
    try {
      bytes = await files.read(path, { offset, length: CHUNK });
    } catch (error) {
      if (isKernelError(error)) return;
      throw error;
    }
    if (offset === 0 && bytes.subarray(0, LOOKED_AT).includes(0)) return;
    offset += bytes.length;
    const isLast = bytes.length < CHUNK;
    const pieces = decoder.decode(bytes, { stream: !isLast }).split("\n");
    for (const [at, piece] of pieces.entries()) {
      if (at > 0) {
        yield rest;
        rest = "";
      }
      if (rest.length < LINE_MAX) rest += piece.slice(0, LINE_MAX - rest.length);
    }
    if (isLast) {
      if (rest !== "") yield rest;
      return;
    }
  }
}

async function* entriesOf(files: Pick<Files, "readdir">, directory: string): AsyncGenerator<DirEntry, void, undefined> {
  for (let after: string | undefined; ;) {
    let page: readonly DirEntry[];
    try {
      page = await files.readdir(directory, { limit: PAGE, ...(after === undefined ? {} : { after }) });
    } catch (error) {
      // A directory that went away, or may not be read, has no matches.
      if (isKernelError(error)) return;
      throw error;
    }
    yield* page;
    after = page.at(-1)?.name;
    if (after === undefined || page.length < PAGE) return;
  }
}
