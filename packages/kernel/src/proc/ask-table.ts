// Questions of processes to a person: may it do this, what shall it do, may it spend more.
//
// Q1  A question is recorded before its process waits, and its answer before the process goes on: both outlive
//     the host. A process that is resumed and asks the same again gets the same question, or its answer.
// Q2  An answer counts for one call: who asks the same at the same time asks again. That to a call with a place
//     is kept until the call has its outcome, any other until it is taken.
// Q3  The questions of a process end with it.
// Q4  A question with a time limit is answered by that when it is over, whichever host it is asked in.

import { entriesOf } from "../abi/entries.ts";
import type { Metastore } from "../abi/metastore.ts";
import { orAborted } from "../base/abort.ts";
import { KernelError } from "../base/errno.ts";
import { type Pid, type RunId, toPid } from "../base/id.ts";
import { LIMITS } from "../base/limits.ts";
import { MultiMap } from "../base/multimap.ts";
import type { Platform, Timer } from "../abi/platform.ts";
import { setAlarm } from "./alarm.ts";
import type { Process } from "./process.ts";
import type { Committer, Rider } from "../ipc/committer.ts";

const FORMAT = 1;
const NEXT_KEY = "sys/ask";
const askKey = (id: number): string => `ask/${String(id).padStart(10, "0")}`;

export const VERDICTS = ["allow", "deny", "edit", "reply"] as const;

export interface Answer {
  /** `edit` allows the call with `value` over its arguments; `reply` answers a question with `value`. */
  readonly verdict: (typeof VERDICTS)[number];
  readonly value?: unknown;
  /** Who answered, and why. */
  readonly by: string;
  readonly why?: string;
  readonly at: number;
  /** Nobody answered in time: this is what was to be taken then. */
  readonly isLate?: true;
  /** Of an edit by somebody who may not do everything: the needs of the call that it allows, by name. */
  readonly needs?: readonly string[];
}

/** What a call needs with the arguments that an edit gives it. */
type NeedsWith = (value: unknown) => Promise<{
  readonly needs: readonly { readonly right: string; readonly resource: string }[];
  readonly conditions: unknown;
}>;

/** What a process asks. */
export interface Question {
  /** The same for the same question of one process. */
  readonly key: string;
  readonly kind: "right" | "question" | "budget";
  /** One sentence for the person. */
  readonly text: string;
  readonly call?: string;
  readonly right?: string;
  readonly resource?: string;
  /** Arguments of the call, or what an answer may be: JSON. */
  readonly args?: unknown;
  /** Names of the arguments that an edit may give; absent, any. */
  readonly fields?: readonly string[];
  /** Milliseconds after which nobody is waited for; what is taken then, unless the question is refused. */
  readonly timeoutMs?: number;
  readonly otherwise?: unknown;
  /** The answer is kept until `consume`: its key names a place, at which a resumed process asks again. */
  readonly isLasting: boolean;
}

export interface Ask extends Question {
  readonly id: number;
  readonly pid: Pid;
  readonly runId: RunId;
  readonly at: number;
  readonly answer?: Answer;
}

interface Waiting {
  readonly ask: Ask;
  readonly answered: PromiseWithResolvers<Answer>;
  readonly needsWith: NeedsWith | undefined;
}

export class AskTable {
  readonly #store: Metastore;
  readonly #committer: Committer;
  readonly #platform: Platform;
  readonly #asks = new Map<number, Ask>();
  readonly #byProcess = new MultiMap<Pid, number>();
  /** Questions of earlier lives and attempts that nobody waits for now, by process and key. */
  readonly #orphans = new Map<string, number>();
  readonly #waiting = new Map<number, Waiting>();
  #next = 1;

  constructor(store: Metastore, committer: Committer, platform: Platform) {
    this.#store = store;
    this.#committer = committer;
    this.#platform = platform;
  }

  async boot(): Promise<void> {
    this.#next = Number((await this.#store.get(NEXT_KEY))?.value ?? 1);
    for await (const { value } of entriesOf(this.#store, "ask/")) {
      const ask = decode(String(value));
      this.#keep(ask);
      this.#orphans.set(keyOf(ask.pid, ask.key), ask.id);
    }
  }

  /** Questions that nobody has answered, oldest first. */
  get pending(): readonly Ask[] {
    return [...this.#asks.values()].filter(({ answer }) => answer === undefined);
  }

  get(id: number): Ask | undefined {
    return this.#asks.get(id);
  }

  /**
   * Asks, and waits for the answer.
   * @throws {EAGAIN} the process has as many open questions as it may
   */
  async raise(
    process: Process,
    question: Question,
    given?: AbortSignal,
    needsWith?: NeedsWith,
  ): Promise<Answer & { readonly id: number }> {
    const signal = process.signalWith(given);
    signal.throwIfAborted();
    const key = keyOf(process.pid, question.key);
    const known = this.#asks.get(this.#orphans.get(key) ?? 0);
    const masked = this.#committer.masker?.maskData({ ...question }) ?? question;
    const isSame = known !== undefined && isSameQuestion(known, masked);
    // The program asks something else there now: what was said to the other is no answer to this.
    if (known !== undefined && !isSame) await this.#forget([known]);
    this.#orphans.delete(key);
    const ask = isSame ? known : await this.#record(process, masked);
    try {
      const answer = ask.answer ?? (await this.#wait(process, ask, signal, needsWith));
      if (!question.isLasting) await this.consume(ask.id);
      return { ...answer, id: ask.id };
    } catch (error) {
      // The host that closes keeps the question for the next life; so does another attempt at the same place.
      if (this.#asks.has(ask.id)) {
        if (question.isLasting || process.isAbandoned) this.#orphans.set(key, ask.id);
        else await this.#forget([ask]);
      }
      throw error;
    }
  }

  /** What an edited call would need; nothing while nobody waits for the answer in this host. */
  needsWith(id: number, value: unknown): ReturnType<NeedsWith> | undefined {
    return this.#waiting.get(id)?.needsWith?.(value);
  }

  /** Forgets an answer that has been acted on. */
  async consume(id: number): Promise<void> {
    const ask = this.#asks.get(id);
    if (ask !== undefined) await this.#forget([ask]);
  }

  async #record(process: Process, question: Question): Promise<Ask> {
    const open = this.#ofProcess(process.pid).filter(({ answer }) => answer === undefined).length;
    if (open >= LIMITS.asksMax)
      throw new KernelError(
        "EAGAIN",
        `process ${process.pid} has ${open} open questions, which is its limit; answer some`,
        {
          pid: process.pid,
        },
      );
    const ask: Ask = {
      ...question,
      id: this.#next++,
      pid: process.pid,
      runId: process.identity.runId,
      at: this.#committer.now(),
    };
    this.#keep(ask);
    try {
      await this.#committer.commit(
        {
          puts: [
            { key: askKey(ask.id), value: encode(ask) },
            { key: NEXT_KEY, value: String(this.#next) },
          ],
        },
        [{ name: "ask.raised", pid: process.pid, data: { id: ask.id, kind: ask.kind, text: ask.text } }],
      );
    } catch (error) {
      this.#drop(ask);
      throw error;
    }
    return ask;
  }

  async #wait(process: Process, ask: Ask, signal: AbortSignal, needsWith: NeedsWith | undefined): Promise<Answer> {
    let waiting = this.#waiting.get(ask.id);
    if (waiting === undefined)
      this.#waiting.set(ask.id, (waiting = { ask, answered: Promise.withResolvers<Answer>(), needsWith }));
    // The answer may have come while the question was recorded.
    const { answer } = this.#asks.get(ask.id) ?? ask;
    if (answer !== undefined) return answer;
    const wait = process.waitFor(`ask ${ask.id}`, true);
    const late = this.#lateAt(ask);
    try {
      return await orAborted(waiting.answered.promise, signal);
    } finally {
      late?.cancel();
      process.stopWaiting(wait);
    }
  }

  /** Answers a question when its time is over, which goes on over restarts. */
  #lateAt({ id, at, timeoutMs, otherwise }: Ask): Timer | undefined {
    if (timeoutMs === undefined) return undefined;
    const given =
      otherwise === undefined ? { verdict: "deny" as const } : { verdict: "reply" as const, value: otherwise };
    const why = `nobody answered within ${timeoutMs} ms`;
    const late = (): void =>
      void this.answer(id, { ...given, by: "the time limit", why, at: this.#committer.now(), isLate: true }).catch(
        // Somebody has answered in the same moment.
        () => undefined,
      );
    return setAlarm(this.#platform, at + timeoutMs, late, { clock: this.#committer.clock });
  }

  /**
   * Records an answer; its process goes on, now or when it is resumed.
   * @throws {ENOENT} {EEXIST} {EINVAL}
   */
  async answer(id: number, answer: Answer, rider?: Rider): Promise<void> {
    const ask = this.#asks.get(id);
    if (ask === undefined)
      throw new KernelError("ENOENT", `there is no question ${id}; \`ergos asks\` lists those that are open`);
    if (ask.answer !== undefined)
      throw new KernelError("EEXIST", `question ${id} was answered with ${ask.answer.verdict} by ${ask.answer.by}`);
    const isReply = answer.verdict === "reply";
    if (isReply !== (ask.kind === "question") && answer.verdict !== "deny")
      throw new KernelError(
        "EINVAL",
        `question ${id} takes ${ask.kind === "question" ? "reply or deny" : "allow, deny or edit"}, found ${answer.verdict}`,
      );
    const answered: Ask = { ...ask, answer };
    // Nobody answers twice: the second finds this one.
    this.#asks.set(id, answered);
    try {
      await this.#committer.commit(
        { puts: [{ key: askKey(id), value: encode(answered) }] },
        [{ name: "ask.answered", pid: ask.pid, data: { id, verdict: answer.verdict, by: answer.by } }],
        rider,
      );
    } catch (error) {
      this.#asks.set(id, ask);
      throw error;
    }
    this.#waiting.get(id)?.answered.resolve(answer);
    this.#waiting.delete(id);
  }

  /** Forgets the questions of a process that has ended. */
  drop(pid: Pid): Promise<void> | undefined {
    const gone = this.#ofProcess(pid);
    return gone.length === 0 ? undefined : this.#forget(gone);
  }

  #ofProcess(pid: Pid): readonly Ask[] {
    return Array.from(this.#byProcess.get(pid)).flatMap((id) => this.#asks.get(id) ?? []);
  }

  #keep(ask: Ask): void {
    this.#asks.set(ask.id, ask);
    this.#byProcess.add(ask.pid, ask.id);
  }

  async #forget(asks: readonly Ask[]): Promise<void> {
    for (const ask of asks) this.#drop(ask);
    await this.#committer.commit({ deletes: asks.map(({ id }) => askKey(id)) });
  }

  #drop({ id, pid, key }: Ask): void {
    this.#asks.delete(id);
    this.#byProcess.delete(pid, id);
    if (this.#orphans.get(keyOf(pid, key)) === id) this.#orphans.delete(keyOf(pid, key));
    this.#waiting.delete(id);
  }
}

/**
 * Whether the answer to one question is that to another at the same place. How long somebody waits is no part of it, but
 * for what a time limit has answered. The keys of other kinds say what they are about.
 */
const isSameQuestion = (known: Ask, asked: Question): boolean =>
  known.kind !== "question" ||
  (known.answer?.isLate === true
    ? (["text", "args", "timeoutMs", "otherwise"] as const)
    : (["text", "args"] as const)
  ).every((name) => JSON.stringify(known[name]) === JSON.stringify(asked[name]));

const keyOf = (pid: Pid, key: string): string => `${pid} ${key}`;

const encode = (ask: Ask): string => JSON.stringify({ v: FORMAT, ...ask });

function decode(text: string): Ask {
  // Written by `encode` only.
  const { v, ...ask } = JSON.parse(text) as Ask & { readonly v: number };
  if (v !== FORMAT) throw new KernelError("EVERSION", `a question has format ${v}, this program reads ${FORMAT}`);
  return { ...ask, pid: toPid(ask.pid) };
}
