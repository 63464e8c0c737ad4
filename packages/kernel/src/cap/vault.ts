// The secrets of a host: found in its stores, in their order, and masked wherever something is recorded or told.
//
// X1  A value that was handed out stands in no journal, process record, ledger, audit record, event, question, log
//     or error: each of those passes through `mask`. Files are their writer's business.

import type { SecretStore } from "../abi/secret.ts";
import { KernelError } from "../base/errno.ts";

const MASK = "***";
/** Shorter values would mask ordinary text. */
const SECRET_LENGTH_MIN = 6;

export class Vault {
  readonly #stores: readonly SecretStore[];
  /** Values in the forms in which they may stand in a text, longest first. */
  #forms: readonly string[] = [];

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

  /** Masks a value from now on. */
  learn(value: string): void {
    if (value.length < SECRET_LENGTH_MIN || this.#forms.includes(value)) return;
    const quoted = JSON.stringify(value).slice(1, -1);
    const forms = new Set([
      ...this.#forms,
      value,
      quoted,
      JSON.stringify(quoted).slice(1, -1),
      encodeURIComponent(value),
    ]);
    this.#forms = [...forms].sort((a, b) => b.length - a.length);
  }

  /** Whether there is anything to mask. */
  get isEmpty(): boolean {
    return this.#forms.length === 0;
  }

  /** The text without secrets. */
  mask(text: string): string {
    let masked = text;
    for (const form of this.#forms) if (masked.includes(form)) masked = masked.replaceAll(form, MASK);
    return masked;
  }

  /** A value of plain data without secrets; the same value when it holds none. */
  maskData<T>(value: T): T {
    if (this.#forms.length === 0) return value;
    const text = JSON.stringify(value);
    if (text === undefined || !this.#forms.some((form) => text.includes(form))) return value;
    // Of the same form, with other texts.
    return JSON.parse(this.mask(text)) as T;
  }
}
