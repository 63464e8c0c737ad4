// Reads YAML into the source tree. It never throws: what is wrong becomes diagnostics.
//
// It owns the budget of a manifest (bytes, depth, values, includes), so that neither an alias that explodes
// nor a deep nesting costs more than the bounds allow.

import {
  type Alias,
  type Document,
  type Node,
  type Pair,
  type Scalar,
  type YAMLMap,
  type YAMLSeq,
  isAlias,
  isCollection,
  isMap,
  isNode,
  isPair,
  isScalar,
  isSeq,
  parseAllDocuments,
  visit,
} from "yaml";
import { type Diagnostics, SourceFile } from "../diagnostic.ts";
import { MANIFEST_LIMITS } from "../limits.ts";
import { keepSecrets, substitute } from "./environment.ts";
import { type Located, type SourceEntry, type SourceMap, type SourceValue, kindName } from "./value.ts";

/** What the reader needs of its surroundings. */
export interface ReaderHost {
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Hears of each variable that is read, but of those whose names are of secrets. */
  readonly onVariable?: (name: string, value: string | undefined) => void;
  /**
   * Reads a file named in an include, relative to the including one; answers a refusal as text, starting
   * with the code it deserves. Absent: includes are refused.
   */
  readonly include?: (
    from: string,
    path: string,
  ) => { readonly name: string; readonly text: string } | { readonly refused: string; readonly isMissing: boolean };
}

interface Frame {
  readonly file: SourceFile;
  /** Nodes by their anchors, as far as the document has been walked: an alias means the last one before it. */
  readonly anchors: Map<string, Node>;
  /** Files on the way to this one. */
  readonly chain: readonly string[];
}

/** The documents of a manifest file; a broken one is left out. */
export function readSource(file: SourceFile, host: ReaderHost, diagnostics: Diagnostics): readonly SourceValue[] {
  return new Reader(host, diagnostics).documents(file, [file.name]);
}

const SYNTAX_MAX = 5;
/** Tags that the reader knows: the first does something, the others are refused with what to do. */
const TAGS = ["!include", "!py", "!js", "!ts"];

class Reader {
  readonly #host: ReaderHost;
  readonly #diagnostics: Diagnostics;
  #values = 0;
  #includes = 0;
  #isExhausted = false;

  constructor(host: ReaderHost, diagnostics: Diagnostics) {
    this.#host = host;
    this.#diagnostics = diagnostics;
  }

  documents(file: SourceFile, chain: readonly string[]): readonly SourceValue[] {
    const parsed = this.#parse(file);
    const out: SourceValue[] = [];
    for (const document of parsed) {
      if (document.errors.length > 0 || document.contents === null) continue;
      const value = this.#value({ file, anchors: new Map(), chain }, document.contents, 0);
      if (value !== undefined) out.push(value);
    }
    return out;
  }

  #parse(file: SourceFile): readonly Document.Parsed[] {
    const all = { file, start: 0, end: 0, path: "" };
    if (file.text.length > MANIFEST_LIMITS.fileBytesMax) {
      this.#diagnostics.report(
        "E102",
        all,
        `the file has ${file.text.length} characters; at most ${MANIFEST_LIMITS.fileBytesMax} are allowed`,
        "split it with !include, or make the nodes in a module",
      );
      return [];
    }
    const deep = tooDeep(file.text);
    if (deep !== undefined) {
      this.#diagnostics.report(
        "E102",
        { ...all, start: deep, end: deep + 1 },
        `values are nested deeper than ${MANIFEST_LIMITS.depthMax}`,
      );
      return [];
    }
    try {
      const documents = parseAllDocuments(file.text, {
        prettyErrors: false,
        // Compares each key with all before it: done below, by a map.
        uniqueKeys: false,
        merge: true,
        logLevel: "silent",
        customTags: TAGS.map((tag) => ({ tag, resolve: (text: string) => text })),
      });
      if (!Array.isArray(documents) || documents.length === 0) return [];
      if (documents.length > MANIFEST_LIMITS.documentsMax) {
        this.#diagnostics.report(
          "E102",
          all,
          `the file has ${documents.length} documents; at most ${MANIFEST_LIMITS.documentsMax} are allowed`,
        );
        return [];
      }
      // One slip upsets much that follows: the first few faults tell where it is.
      for (const { errors, warnings } of documents)
        for (const error of [...errors, ...warnings].slice(0, SYNTAX_MAX)) this.#syntax(file, error);
      // The empty case, in which the library answers with another type, has been left above.
      return documents as Document.Parsed[];
    } catch (error) {
      // The library recurses: a stack that overflows is a nesting beyond every use.
      const message =
        error instanceof RangeError
          ? "values are nested too deep"
          : `the text cannot be read: ${error instanceof Error ? error.message : String(error)}`;
      this.#diagnostics.report(error instanceof RangeError ? "E102" : "E101", all, message);
      return [];
    }
  }

  #syntax(
    file: SourceFile,
    error: { readonly code: string; readonly message: string; readonly pos: readonly [number, number] },
  ): void {
    if (error.message.startsWith("Maximum call stack")) {
      // The library reports its own recursion as a fault of the text.
      this.#diagnostics.report(
        "E102",
        { file, start: error.pos[0], end: error.pos[0], path: "" },
        "values are nested too deep",
      );
      return;
    }
    const place = { file, start: error.pos[0], end: error.pos[1], path: "" };
    const message = error.message.split("\n", 1)[0] ?? "";
    // Over a map or a list: said where the value is read.
    if (TAGS.some((tag) => message === `Unresolved tag: ${tag}`)) return;
    if (error.code === "TAG_RESOLVE_FAILED")
      this.#diagnostics.report("E207", place, message, "known tags are !include");
    else this.#diagnostics.report("E101", place, message, () => syntaxHint(file, error));
  }

  #value(frame: Frame, node: Node, depth: number): SourceValue | undefined {
    const range = rangeOf(node);
    const place = { file: frame.file, ...range, path: "" };
    if (this.#isExhausted) return undefined;
    if (++this.#values > MANIFEST_LIMITS.valuesMax || depth > MANIFEST_LIMITS.depthMax) {
      this.#isExhausted = true;
      const what =
        depth > MANIFEST_LIMITS.depthMax
          ? `values nested deeper than ${MANIFEST_LIMITS.depthMax}`
          : `more than ${MANIFEST_LIMITS.valuesMax} values`;
      this.#diagnostics.report("E102", place, `the manifest has ${what}, aliases and includes counted`);
      return undefined;
    }
    if (isAlias(node)) return this.#alias(frame, node, depth);
    const { tag, anchor } = node as { readonly tag?: string; readonly anchor?: string };
    if (anchor !== undefined) frame.anchors.set(anchor, node);
    if (tag === "!include") return this.#include(frame, node, depth);
    if (tag === "!py" || tag === "!js" || tag === "!ts") {
      this.#diagnostics.report(
        "E207",
        place,
        `${tag} is refused: code lives in modules, not in YAML`,
        "write a module beside the manifest and use kind: function with module: ./name.ts",
      );
      return brokenAt(place);
    }
    if (isMap(node)) return this.#map(frame, node, depth);
    if (isSeq(node)) {
      // Items of a parsed sequence are nodes.
      const items = (node as YAMLSeq<Node>).items.map((item) => this.#value(frame, item, depth + 1));
      return { kind: "list", file: frame.file, ...range, items: items.filter((item) => item !== undefined) };
    }
    if (isScalar(node)) return this.#scalar(frame, node, range);
    return { kind: "scalar", file: frame.file, ...range, value: null };
  }

  #scalar(frame: Frame, node: Scalar, range: { start: number; end: number }): SourceValue {
    const { file } = frame;
    const raw = node.value;
    if (typeof raw !== "string") {
      const isPlainValue = raw === null || raw === undefined || ["number", "boolean", "bigint"].includes(typeof raw);
      if (!isPlainValue)
        this.#diagnostics.report(
          "E207",
          { file, ...range, path: "" },
          `${node.tag ?? "this"} makes a value that is none of JSON`,
          "write a text, a number, true, false or null",
        );
      const value =
        typeof raw === "number" || typeof raw === "boolean" ? raw : typeof raw === "bigint" ? Number(raw) : null;
      return { kind: "scalar", file, ...range, value, ...(node.source === undefined ? {} : { text: node.source }) };
    }
    const isPlain = node.type === "PLAIN";
    let isBroken = false;
    const value = substitute(raw, isPlain, this.#host.environment, {
      missing: (name) => {
        isBroken = true;
        this.#diagnostics.report(
          "E105",
          { file, ...range, path: "" },
          `the environment variable ${name} is not set`,
          `set it, put it into .env, or give a default: \${${name}:value}`,
        );
      },
      read: (name, found) => this.#host.onVariable?.(name, found),
    });
    if (isBroken) return brokenAt({ file, ...range });
    // Only a text that stands in the file as it is has offsets of its own.
    const quote = node.type === "QUOTE_DOUBLE" || node.type === "QUOTE_SINGLE" ? 1 : 0;
    const isVerbatim = value === raw && file.text.startsWith(raw, range.start + quote);
    if (isVerbatim) return { kind: "scalar", file, ...range, value, textStart: range.start + quote };
    return { kind: "scalar", file, ...range, value, isBlock: node.type === "BLOCK_LITERAL" && value === raw };
  }

  #map(frame: Frame, node: YAMLMap, depth: number): SourceMap {
    const entries = new Map<string, SourceEntry>();
    const merged: SourceMap[] = [];
    for (const pair of node.items) {
      if (!isPair(pair)) continue;
      // Keys and values of a parsed mapping are nodes, a missing value is null.
      const { key, value } = pair as Pair<Node, Node | null>;
      const keyAt = { file: frame.file, ...rangeOf(key) };
      // So the parser marks a plain `<<`; a quoted one is a name.
      if (isScalar(key) && typeof key.value === "symbol") {
        const from = value === null ? undefined : this.#value(frame, value, depth + 1);
        for (const one of from?.kind === "list" ? from.items : [from])
          if (one?.kind === "map") merged.push(one);
          else if (one !== undefined)
            this.#diagnostics.report("E203", { ...one, path: "" }, `<< merges mappings, found ${kindName(one)}`);
        continue;
      }
      if (!isScalar(key)) {
        this.#diagnostics.report(
          "E203",
          { ...keyAt, path: "" },
          "a key must be a text",
          'a text that holds {{ … }} needs quotes here: "{{ name }}"',
        );
        continue;
      }
      const name = String(key.value);
      if (entries.has(name)) {
        this.#diagnostics.report(
          "E106",
          { ...keyAt, path: "" },
          `the key ${JSON.stringify(name)} stands in the mapping already`,
        );
        continue;
      }
      const inner =
        value === null ? ({ kind: "scalar", ...keyAt, value: null } as const) : this.#value(frame, value, depth + 1);
      const broken = { kind: "scalar", file: frame.file, ...rangeOf(value), value: null, isBroken: true } as const;
      entries.set(name, { key: name, keyAt, value: inner ?? broken });
    }
    // What the mapping says itself wins over what it merges.
    for (const from of merged)
      for (const [name, entry] of from.entries) if (!entries.has(name)) entries.set(name, entry);
    return { kind: "map", file: frame.file, ...rangeOf(node), entries };
  }

  #alias(frame: Frame, node: Alias, depth: number): SourceValue | undefined {
    const target = frame.anchors.get(node.source);
    const place = { file: frame.file, ...rangeOf(node), path: "" };
    if (target === undefined) {
      this.#diagnostics.report("E101", place, `there is no anchor &${node.source}`);
      return undefined;
    }
    // An alias inside of its own anchor has no end.
    const [from, to] = [rangeOf(target), rangeOf(node)];
    if (isCollection(target) && from.start <= to.start && to.end <= from.end) {
      this.#diagnostics.report("E102", place, `the alias *${node.source} contains itself`);
      return undefined;
    }
    return this.#value(frame, target, depth + 1);
  }

  #include(frame: Frame, node: Node, depth: number): SourceValue | undefined {
    const place = { file: frame.file, ...rangeOf(node), path: "" };
    const path = isScalar(node) && typeof node.value === "string" ? node.value.trim() : "";
    const [filePart = "", anchor] = path.split("#", 2);
    const refuse = (message: string, hint?: string): SourceValue => {
      this.#diagnostics.report("E104", place, message, hint);
      return brokenAt(place);
    };
    if (filePart === "") return refuse("!include takes the path of a file", "write !include ./parts/node.yaml");
    if (this.#host.include === undefined) return refuse("includes are not allowed here");
    if (frame.chain.length > MANIFEST_LIMITS.includeDepthMax)
      return refuse(`includes are nested deeper than ${MANIFEST_LIMITS.includeDepthMax}`);
    if (++this.#includes > MANIFEST_LIMITS.includesMax)
      return refuse(`more than ${MANIFEST_LIMITS.includesMax} includes`);
    const found = this.#host.include(frame.file.name, filePart);
    if ("refused" in found) {
      this.#diagnostics.report(found.isMissing ? "E103" : "E104", place, found.refused);
      return brokenAt(place);
    }
    const here = anchor === undefined ? found.name : `${found.name}#${anchor}`;
    if (frame.chain.includes(here)) return refuse(`${path} includes itself, over ${frame.chain.join(" > ")}`);
    const file = new SourceFile(found.name, found.text);
    // A prompt, or another text, is what stands in its file.
    if (!/\.(?:ya?ml|json)$/i.test(filePart)) {
      if (anchor !== undefined) return refuse(`${filePart} is a text, which has no parts`);
      const value = keepSecrets(found.text);
      const { length: end } = found.text;
      return { kind: "scalar", file, start: 0, end, value, ...(value === found.text ? { textStart: 0 } : {}) };
    }
    const parsed = this.#parse(file);
    const document = parsed[0];
    if (parsed.length > 1) return refuse(`${filePart} has more than one document`);
    if (document === undefined || document.contents === null || document.errors.length > 0) {
      if (document === undefined || document.errors.length === 0) return refuse(`${filePart} is empty`);
      return brokenAt(place);
    }
    const inner = { file, anchors: new Map<string, Node>(), chain: [...frame.chain, here] };
    if (anchor === undefined) return this.#value(inner, document.contents, depth + 1);
    // What else stands in the file is none of this manifest's business.
    const part = partOf(document.contents, anchor.split("."));
    if (part === undefined) return refuse(`${filePart} has no ${anchor}`);
    visit(document.contents, {
      Node: (_key, one) => {
        if (!isAlias(one) && one.anchor !== undefined) inner.anchors.set(one.anchor, one);
      },
    });
    return this.#value(inner, part, depth + 1);
  }
}

/** What stands in a document under names, or under numbers in lists. */
function partOf(top: Node, names: readonly string[]): Node | undefined {
  let at: unknown = top;
  for (const name of names) {
    if (isMap(at))
      at = at.items.find(
        ({ key }) => isScalar(key) && typeof key.value !== "symbol" && String(key.value) === name,
      )?.value;
    else if (isSeq(at) && /^\d+$/.test(name)) at = at.items[Number(name)];
    else return undefined;
  }
  return isNode(at) ? at : undefined;
}

/** Stands for a value that was refused, so that nothing else is said of it. */
const brokenAt = ({ file, start, end }: Located): SourceValue => ({
  kind: "scalar",
  file,
  start,
  end,
  value: null,
  isBroken: true,
});

/** What a newcomer to YAML most likely did. */
function syntaxHint(
  { text }: SourceFile,
  { code, pos: [from, to] }: { readonly code: string; readonly pos: readonly [number, number] },
): string | undefined {
  if (code === "TAB_AS_INDENT" || /\t/.test(text.slice(from, to + 1))) return "indent with blanks; YAML allows no tabs";
  const line = text.slice(text.lastIndexOf("\n", Math.max(0, from - 1)) + 1, Math.max(from, text.indexOf("\n", from)));
  if (line.includes("{{")) return 'quote the whole text that holds {{ … }}: prompt: "Hello {{ name }}"';
  if (/^\s*[\w-]+:.*:\s/.test(line)) return "a text with a colon and a blank in it needs quotes";
  if (/same column|indent/i.test(code)) return "begin the fields of a mapping in the same column";
  return undefined;
}

function rangeOf(node: { readonly range?: readonly number[] | null | undefined } | null): {
  readonly start: number;
  readonly end: number;
} {
  const start = node?.range?.[0] ?? 0;
  return { start, end: Math.max(start, node?.range?.[1] ?? start) };
}

/** Levels that the text of a file may show; the tree is held against the real bound. */
const TEXT_DEPTH_MAX = MANIFEST_LIMITS.depthMax * 3;

/** Where brackets or indentation go deeper than any manifest: the library would recurse that far. */
function tooDeep(text: string): number | undefined {
  let flow = 0;
  const indents: number[] = [];
  for (let at = 0; at < text.length; at++) {
    const char = text.charCodeAt(at);
    // Brackets in prose and comments are rarely closed: a line that begins anew at the left ends them.
    if (char === 0x5b || char === 0x7b) flow++;
    else if ((char === 0x5d || char === 0x7d) && flow > 0) flow--;
    else if (char === 0x0a || at === 0) {
      flow = isClosing(text, at + 1) ? flow : 0;
      const line = (LINE_START.exec(text.slice(at, at + 4 * TEXT_DEPTH_MAX))?.[0] ?? "").replace("\n", "");
      const column = line.search(/-|$/);
      while ((indents.at(-1) ?? -1) >= column) indents.pop();
      indents.push(column);
      // Each dash of `- - - a` is a level of its own.
      for (const dash of line.matchAll(/-/g)) indents.push(dash.index + 1);
    }
    if (flow + indents.length > TEXT_DEPTH_MAX) return at;
  }
  return undefined;
}

/** Whether a flow collection may go on over this line: real ones deeper than the bound stand on one line. */
const isClosing = (text: string, at: number): boolean => /^[ \t]*[\]}[{]/.test(text.slice(at, at + 200));

const LINE_START = /^\n?[ ]*(?:- +)*/;
