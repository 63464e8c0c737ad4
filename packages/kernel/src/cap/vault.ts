// The secrets of a host: found in its stores, in their order, and masked wherever something is recorded or told.
//
// X1  A value that was handed out stands in no journal, process record, ledger, audit record, event, question, log
//     or error. Only texts of users are masked, never the kernel's own fields. Files are their writer's business.

import type { SecretStore } from "../abi/secret.ts";
import { toBase64 } from "../base/base64.ts";
import { KernelError } from "../base/errno.ts";

const MASK = "***";
/** Shorter values would mask ordinary text. */
const SECRET_LENGTH_MIN = 6;
/** As a name of a field a shorter one is taken for an ordinary word. */
const NAME_LENGTH_MIN = 8;

export class Vault {
  readonly #stores: readonly SecretStore[];
  /** Values in the forms in which they may stand in a text, longest first. */
  #forms: readonly string[] = [];
  readonly #learned = new Set<string>();
  /** The same as they stand inside of JSON. */
  #quoted: readonly string[] = [];

  constructor(stores: readonly SecretStore[] = []) {
    this.#stores = stores;
  }

  /**
   * The value of a secret, masked everywhere from now on.
   * @throws {ENOENT} no store has it
   */
  async get(name: string): Promise<string> {
    for (const store of this.#stores) {
      const value = await store.get(name);
      if (value === undefined) continue;
      this.learn(value);
      return value;
    }
    const stores = this.#stores.map((store) => store.name).join(", ") || "none";
    throw new KernelError("ENOENT", `there is no secret ${JSON.stringify(name)}; looked in: ${stores}`, { path: name });
  }

  async names(): Promise<readonly string[]> {
    const all = new Set<string>();
    for (const store of this.#stores) for (const name of await store.names()) all.add(name);
    return [...all].sort();
  }

  /** Masks a value from now on, also in the forms in which addresses and headers carry it. */
  learn(given: string): void {
    const value = given.toWellFormed();
    if (value.length < SECRET_LENGTH_MIN || this.#learned.has(value)) return;
    this.#learned.add(value);
    this.#forms = [...new Set([...this.#forms, ...formsOf(value)])].sort((a, b) => b.length - a.length);
    this.#quoted = this.#forms.map(quoted);
  }

  /** Whether there is anything to mask. */
  get isEmpty(): boolean {
    return this.#forms.length === 0;
  }

  /** A text without secrets; not for JSON, whose numbers and names are no secrets. */
  maskText(text: string): string {
    let masked = text;
    for (const form of this.#forms) if (masked.includes(form)) masked = masked.replaceAll(form, MASK);
    return masked;
  }

  /**
   * Masks a text that comes in pieces: of each, what can be told by then, and with the last one the rest. What may be the
   * beginning of a secret is kept until more is known.
   */
  maskPieces(): (piece: string, isLast?: boolean) => string {
    let kept = "";
    return (piece, isLast = false) => {
      kept += piece;
      const end = isLast ? kept.length : this.#safeEnd(kept);
      const told = this.maskText(kept.slice(0, end));
      kept = kept.slice(end);
      return told;
    };
  }

  /** Up to where a text can be told, whatever follows. */
  #safeEnd(text: string): number {
    const longest = this.#forms[0]?.length ?? 1;
    let end = Math.max(0, text.length - longest + 1);
    while (
      end < text.length &&
      !this.#forms.some((form) => text.length - end < form.length && form.startsWith(text.slice(end)))
    )
      end++;
    // What is whole is not cut.
    for (let before = -1; before !== end;) {
      before = end;
      for (const form of this.#forms) {
        const at = text.indexOf(form, Math.max(0, end - form.length + 1));
        if (at >= 0 && at < end && at + form.length > end) end = at;
      }
    }
    return end;
  }

  /** JSON whose texts hold no secrets; numbers and short names in it stay as they are. */
  maskJson(json: string): string {
    if (!this.#quoted.some((form) => json.includes(form))) return json;
    return JSON.stringify(this.#walk(JSON.parse(json)));
  }

  /** Plain data whose texts hold no secrets; the same data when they hold none. */
  maskData<T>(value: T): T {
    if (this.#forms.length === 0) return value;
    // Of the same form, with other texts.
    return this.#walk(value) as T;
  }

  #walk(value: unknown): unknown {
    if (typeof value === "string") return this.maskText(value);
    if (Array.isArray(value)) return value.map((item) => this.#walk(item));
    if (typeof value !== "object" || value === null || value instanceof Uint8Array) return value;
    return Object.fromEntries(
      Object.entries(value).map(([name, inner]) => [
        name.length < NAME_LENGTH_MIN ? name : this.maskText(name),
        this.#walk(inner),
      ]),
    );
  }
}

/** A line of a key or a token; anything shorter, or with other characters, may be ordinary text. */
const KEY_LINE = /^[\w+/=.~:-]{24,}$/;
/** Fields of a file of credentials that are secrets by themselves, and those of such names that are none. */
const SECRET_NAME = /key|secret|token|password|credential/i;
const PUBLIC_NAME = /(?:uri|url|type|id|name)$/i;
/** A word, or an address, stands in ordinary text. */
const ORDINARY = /^(?:[A-Za-z]{1,12}|https?:.*)$/;

/** A value as texts carry it: whole, without the ends that are trimmed, each line of a key, and the secrets of its JSON. */
function formsOf(value: string): readonly string[] {
  const trimmed = value.trim();
  const wholes = [value, trimmed, ...secretsIn(trimmed)].filter(({ length }) => length >= SECRET_LENGTH_MIN);
  const lines = wholes
    .flatMap((whole) => whole.split("\n"))
    .map((line) => line.trim())
    .filter((line) => KEY_LINE.test(line) && !line.startsWith("-----"));
  return [...[...wholes, ...lines].flatMap(writtenForms), ...wholes.flatMap(base64Forms)];
}

function secretsIn(text: string): readonly string[] {
  if (!text.startsWith("{")) return [];
  const secretsOf = (fields: object): readonly string[] =>
    Object.entries(fields).flatMap(([name, value]: [string, unknown]) => {
      if (typeof value === "object" && value !== null) return secretsOf(value);
      if (typeof value !== "string" || !SECRET_NAME.test(name) || PUBLIC_NAME.test(name)) return [];
      return ORDINARY.test(value) ? [] : [value, value.trim()];
    });
  try {
    return secretsOf(JSON.parse(text) as object);
  } catch {
    return [];
  }
}

/** In addresses, in forms, and inside of JSON that is a text of JSON again. */
function writtenForms(value: string): readonly string[] {
  const inJson = quoted(value);
  const component = encodeURIComponent(value);
  const form = component.replaceAll(/[!'()~]/g, percent).replaceAll("%20", "+");
  const query = value.replaceAll(/[^!$-&(-;=?-~]/gu, (char) => (char === "'" ? "%27" : encodeURIComponent(char)));
  return [value, inJson, quoted(inJson), component, encodeURI(value), form, query];
}

const quoted = (text: string): string => JSON.stringify(text).slice(1, -1);

const percent = (char: string): string => `%${(char.codePointAt(0) ?? 0).toString(16).toUpperCase()}`;

/** Shorter pieces of base64 would mask ordinary text. */
const BASE64_LENGTH_MIN = 10;

/** What of a value stands in base64 wherever in a text it begins. */
function base64Forms(value: string): readonly string[] {
  const bytes = new TextEncoder().encode(value);
  return [0, 1, 2].flatMap((offset) => {
    // Whole groups of three bytes, beginning where a group begins.
    const from = (3 - offset) % 3;
    const groups = Math.floor((bytes.length - from) / 3);
    const text = groups <= 0 ? "" : toBase64(bytes.subarray(from, from + groups * 3));
    return text.length < BASE64_LENGTH_MIN ? [] : [text, text.replaceAll("+", "-").replaceAll("/", "_")];
  });
}
