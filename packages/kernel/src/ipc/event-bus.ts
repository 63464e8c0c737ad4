// The event bus: who listens is told after the commit, in commit order; nobody listening costs a comparison.
//
// E1  Events of the log and of journals are published after their commit and never before.
// E2  A subscriber that is slower than its buffer is told so (`error`) or loses counted events (`drop`),
//     as the table says; it never holds up the publisher or the other subscribers.
// E3  A subscription with `after` first reads the log up to where it became live, then goes on without a
//     gap and without a repetition.

import type { Clock } from "../abi/platform.ts";
import type { Metastore } from "../abi/metastore.ts";
import { EVENTS, type EventClass, type EventName, type KernelEvent, isEventName } from "../abi/event.ts";
import { KernelError, isKernelError } from "../base/errno.ts";
import { type Pid, type Seq, toPid, toSeq } from "../base/id.ts";
import { compileGlob, compileGlobBelow } from "../base/glob.ts";
import { LIMITS } from "../base/limits.ts";
import { MultiMap } from "../base/multimap.ts";
import { bodyOf, compileTopics, holds, topicOf } from "./topic.ts";

export const EVENT_LOG = "events";

export interface EventFilter {
  readonly names?: readonly EventName[];
  readonly classes?: readonly EventClass[];
  readonly pids?: readonly Pid[];
  /** Matches `path` or `oldPath` of file events; events without a path never match. */
  readonly glob?: string;
  /** Patterns of topics, as `orders.*`; an event of the kernel is its own topic. */
  readonly topics?: readonly string[];
  /** Fields of the event that must have these values; `a.b` goes into objects. */
  readonly where?: Readonly<Record<string, unknown>>;
  /** Events kept for a slow reader (default and at most 10,000), and what becomes of more than that. */
  readonly buffer?: number;
  /** As the table of events says (default), or always: `error` ends the subscription, `drop` leaves out the newest, `drop-oldest` the oldest. */
  readonly overflow?: "error" | "drop" | "drop-oldest";
  /** Begin behind this position; logged events since then come first. */
  readonly after?: Seq;
  readonly signal?: AbortSignal;
}

/** The same, of whom some events are kept from. */
export interface Listening extends EventFilter {
  readonly isHeard?: (event: KernelEvent) => boolean;
}

/** What a commit wants to be told about once it is done. */
export interface PendingEvent {
  readonly name: EventName;
  readonly pid: Pid;
  readonly data: Readonly<Record<string, unknown>>;
}

/** Takes secrets out of what is recorded or told. */
export interface Masker {
  readonly isEmpty: boolean;
  maskText(text: string): string;
  maskJson(json: string): string;
  maskData<T>(value: T): T;
}

interface Subscriber {
  readonly accepts: (event: KernelEvent) => boolean;
  readonly deliver: (event: KernelEvent) => void;
}

/** Lets go of what a generator holds when it is given back, even when it was never started and runs no `finally`. */
export function releasing<T>(
  items: AsyncGenerator<T, void, undefined>,
  release: () => void,
): AsyncGenerator<T, void, undefined> {
  const end = items.return.bind(items);
  items.return = (value) => {
    release();
    return end(value);
  };
  return items;
}

/** What has arrived for one subscriber and was not taken yet. */
interface Inbox {
  readonly buffer: KernelEvent[];
  failure: KernelError | undefined;
  /** Nobody takes anything any more. */
  isOver: boolean;
  wake: (() => void) | undefined;
}

export class EventBus {
  readonly #store: Metastore;
  readonly #clock: Clock;
  /** Who may want anything; who wants events by their names; who wants topics, by their first parts. */
  readonly #subscribers = new Set<Subscriber>();
  readonly #byName = new MultiMap<string, Subscriber>();
  readonly #byTopic = new MultiMap<string, Subscriber>();
  #listening = 0;
  readonly #drained = new Set<Inbox>();
  #isClosed = false;
  #masker: Masker | undefined;
  #published = 0;
  #dropped = 0;

  constructor(store: Metastore, clock: Clock) {
    this.#store = store;
    this.#clock = clock;
  }

  /** Whether an event would reach anybody: ask before building one. */
  get hasSubscribers(): boolean {
    return this.#listening > 0;
  }

  get counters(): { readonly published: number; readonly dropped: number; readonly subscribers: number } {
    return { published: this.#published, dropped: this.#dropped, subscribers: this.#listening };
  }

  /** The host ends: so do all who listen, once they have heard what was told. */
  close(): void {
    this.#isClosed = true;
    for (const inbox of this.#drained) inbox.wake?.();
  }

  /** Masks secrets in what is told from now on. */
  setMasker(masker: Masker): void {
    this.#masker = masker;
  }

  publish(event: PendingEvent, seq: Seq = this.#store.seq): void {
    this.#published++;
    if (this.#listening === 0) return;
    const data = this.#masker?.maskData(event.data) ?? event.data;
    const full: KernelEvent = { name: event.name, seq, at: this.#clock.now(), pid: event.pid, data };
    // Many listen to little each: those that want something else are not looked at.
    deliver(full, this.#byName.get(full.name));
    if (this.#subscribers.size > 0) deliver(full, this.#subscribers);
    if (this.#byTopic.size > 0) deliver(full, this.#byTopic.get(firstOf(topicOf(full))));
  }

  /** Whether anybody wants an event by its name: of some there are too many to tell those who want anything. */
  isNamed(name: EventName): boolean {
    return this.#byName.get(name).size > 0;
  }

  /** Tells those who want an event by its name, and nobody else; what it says is free of secrets. */
  publishNamed({ name, pid, data }: PendingEvent): void {
    this.#published++;
    deliver({ name, seq: this.#store.seq, at: this.#clock.now(), pid, data }, this.#byName.get(name));
  }

  /** Calls `deliver` for each live event; returns what ends it. A throwing observer is dropped, not heard. */
  observe(filter: Listening, deliver: (event: KernelEvent) => void): () => void {
    const subscriber: Subscriber = {
      accepts: toPredicate(filter),
      deliver: (event) => {
        try {
          deliver(event);
        } catch {
          this.#dropped++;
        }
      },
    };
    const undo = this.#index(filter, subscriber);
    this.#listening++;
    let isOver = false;
    return () => {
      if (isOver) return;
      isOver = true;
      this.#listening--;
      undo();
    };
  }

  #index({ names, topics }: EventFilter, subscriber: Subscriber): () => void {
    const firsts = topics?.map(firstOf);
    const [index, keys] =
      firsts === undefined ? [this.#byName, new Set<string>(names)] : [this.#byTopic, new Set(firsts)];
    if (keys.size === 0 || firsts?.some((first) => first.startsWith("*")) === true) {
      this.#subscribers.add(subscriber);
      return () => void this.#subscribers.delete(subscriber);
    }
    for (const key of keys) index.add(key, subscriber);
    return () => {
      for (const key of keys) index.delete(key, subscriber);
    };
  }

  /**
   * Events as an async iterable, collected from this call on; ends when its signal aborts or its consumer stops.
   * @param ended is called once when it ends
   */
  subscribe(filter: Listening, ended?: () => void): AsyncGenerator<KernelEvent, void, undefined> {
    const inbox: Inbox = { buffer: [], failure: undefined, isOver: false, wake: undefined };
    const room = Math.min(filter.buffer ?? LIMITS.subscriberBufferMax, LIMITS.subscriberBufferMax);
    const unobserve = this.observe(filter, (event) => {
      const overflow = inbox.buffer.length < room ? undefined : (filter.overflow ?? EVENTS[event.name].overflow);
      if (overflow === "error") {
        // A position is that of a commit: of the one that is told in part nothing is told.
        while (event.seq !== undefined && inbox.buffer.at(-1)?.seq === event.seq) inbox.buffer.pop();
        const last = inbox.buffer.at(-1)?.seq ?? Math.max(0, (event.seq ?? 1) - 1);
        inbox.failure = new KernelError(
          "EAGAIN",
          `a subscriber fell ${room} events behind; subscribe again after ${last}`,
        );
        // After a gap nothing more is taken: the subscriber is told where to begin again.
        unobserve();
      } else if (overflow !== undefined) this.#dropped++;
      if (overflow === "drop-oldest") inbox.buffer.shift();
      if (overflow === undefined || overflow === "drop-oldest") inbox.buffer.push(event);
      inbox.wake?.();
    });
    const stop = (): void => {
      unobserve();
      filter.signal?.removeEventListener("abort", stop);
      inbox.isOver = true;
      inbox.wake?.();
      ended?.();
    };
    // Also of one that nobody has begun to read.
    if (filter.signal?.aborted === true) stop();
    else filter.signal?.addEventListener("abort", stop, { once: true });
    const events = this.#drain(filter, inbox, stop, this.#store.seq);
    return releasing(events, stop);
  }

  /** Logged events of the past, as far back as they are kept. */
  async *past(filter: Pick<EventFilter, "names" | "pids">): AsyncGenerator<KernelEvent, void, undefined> {
    const upTo = this.#store.seq;
    const after = await this.oldest(toSeq(Math.max(0, upTo - 2 * LIMITS.eventRetention)));
    yield* this.#replay({ ...filter, after }, upTo);
  }

  /** The first position, from one on, behind which all logged events are still kept. */
  async oldest(from: Seq): Promise<Seq> {
    const isKept = async (after: number): Promise<boolean> => {
      try {
        await this.#store.readLog(EVENT_LOG, { after: toSeq(after), limit: 1 });
        return true;
      } catch (error) {
        if (isKernelError(error) && error.code === "ESTALE") return false;
        throw error;
      }
    };
    let [low, high] = [Number(from), Number(this.#store.seq)];
    while (low < high) {
      const middle = Math.floor((low + high) / 2);
      if (await isKept(middle)) high = middle;
      else low = middle + 1;
    }
    return toSeq(low);
  }

  async *#drain(
    filter: EventFilter,
    inbox: Inbox,
    stop: () => void,
    liveFrom: Seq,
  ): AsyncGenerator<KernelEvent, void, undefined> {
    this.#drained.add(inbox);
    try {
      if (filter.after !== undefined) yield* this.#replay(filter, liveFrom);
      for (;;) {
        for (let event = inbox.buffer.shift(); event !== undefined; event = inbox.buffer.shift()) {
          const isReplayed = filter.after !== undefined && event.seq <= liveFrom && EVENTS[event.name].source === "log";
          if (!isReplayed) yield event;
          if (inbox.isOver) return;
        }
        if (inbox.failure !== undefined) throw inbox.failure;
        if (inbox.isOver || this.#isClosed) return;
        await new Promise<void>((resolve) => (inbox.wake = resolve));
        inbox.wake = undefined;
      }
    } finally {
      stop();
      this.#drained.delete(inbox);
    }
  }

  async *#replay(filter: EventFilter, upTo: Seq): AsyncGenerator<KernelEvent, void, undefined> {
    const accepts = toPredicate(filter);
    for (let after = filter.after ?? upTo; after < upTo;) {
      const page = await this.#store.readLog(EVENT_LOG, { after, limit: 500 });
      for (const { seq, value } of page) {
        if (seq > upTo) return;
        const event = decodeEvent(seq, String(value));
        if (event !== undefined && accepts(event)) yield event;
        after = seq;
      }
      if (page.length === 0) return;
    }
  }
}

/** The record of an event in the log: `{ n, t, p, d }`. */
export function encodeEvent(event: PendingEvent, at: number): string {
  return JSON.stringify({ n: event.name, t: at, p: event.pid, d: event.data });
}

/** Reads a record back; an event that a newer program wrote is passed over. */
function decodeEvent(seq: Seq, text: string): KernelEvent | undefined {
  // Written by `encodeEvent` only.
  const record = JSON.parse(text) as { n: string; t: number; p: number; d: Record<string, unknown> };
  return isEventName(record.n)
    ? { name: record.n, seq, at: record.t, pid: toPid(record.p), data: record.d }
    : undefined;
}

const firstOf = (topic: string): string => topic.slice(0, topic.indexOf(".") >>> 0);

function deliver(event: KernelEvent, subscribers: ReadonlySet<Subscriber>): void {
  for (const subscriber of subscribers) if (subscriber.accepts(event)) subscriber.deliver(event);
}

function toPredicate(filter: Listening): (event: KernelEvent) => boolean {
  const names = filter.names === undefined ? undefined : new Set<string>(filter.names);
  const classes = filter.classes === undefined ? undefined : new Set<string>(filter.classes);
  const pids = filter.pids === undefined ? undefined : new Set<number>(filter.pids);
  const glob = filter.glob === undefined ? undefined : compilePaths(filter.glob);
  const topics = filter.topics === undefined ? undefined : compileTopics(filter.topics);
  const { where, isHeard } = filter;
  if (where !== undefined && (typeof where !== "object" || where === null))
    throw new KernelError("EINVAL", "`where` of a subscription is an object of fields and their values");
  return (event) => {
    if (topics !== undefined && !topics(topicOf(event))) return false;
    if (where !== undefined && !holds(where, bodyOf(event))) return false;
    if (names !== undefined && !names.has(event.name)) return false;
    if (classes !== undefined && !classes.has(EVENTS[event.name].class)) return false;
    if (pids !== undefined && !pids.has(event.pid)) return false;
    if (isHeard?.(event) === false) return false;
    if (glob === undefined) return true;
    return glob(event);
  };
}

/**
 * Events about paths that a glob matches. What happens to a directory with all that is below it is told once, by its own
 * path: it is also for whoever watches something below.
 */
export function compilePaths(glob: string): (event: Pick<KernelEvent, "name" | "data">) => boolean {
  const [matches, matchesBelow] = [compileGlob(glob), compileGlobBelow(glob)];
  return ({ name, data: { path, oldPath, type } }) => {
    const isTree = type === "directory" && (name === "file.renamed" || name === "file.copied");
    return [path, oldPath].some((at) => typeof at === "string" && (matches(at) || (isTree && matchesBelow(at))));
  };
}
