// Messages between processes: routed, stored with what sent them, and read once.
//
// G1  A message that was sent at a place of a journal is stored in the commit of that step; one that is read at a
//     place leaves its mailbox in the commit of that step. Neither is ever lost or there twice.
// G2  Whoever has no journal reads under a lease, and acknowledges: what it has not, comes back.
// G3  A mailbox holds a bounded number of messages and bytes; beyond them the sender hears EAGAIN.
// G4  What waits for a process that has ended is gone with it. Whoever waits for a letter of it hears of its end.

import { entriesOf } from "../abi/entries.ts";
import type { Batch, Metastore } from "../abi/metastore.ts";
import type { Platform } from "../abi/platform.ts";
import { copyBytes } from "../base/bytes.ts";
import { orAborted } from "../base/abort.ts";
import { KernelError } from "../base/errno.ts";
import { PID_OWNER, type Pid, toPid } from "../base/id.ts";
import { encodeJson } from "../base/json.ts";
import { LIMITS } from "../base/limits.ts";
import type { Committer, Rider } from "../ipc/committer.ts";
import type { PendingEvent } from "../ipc/event-bus.ts";
import { type Item, Mailbox, type Message, type MessageKind, PRIORITIES, type Priority } from "../ipc/mailbox.ts";
import { type Along, merge } from "./action.ts";
import type { Family } from "./family.ts";
import type { Forwarding } from "./life-cycle.ts";
import type { Process } from "./process.ts";
import { type Route, routeOf } from "./routing.ts";

export interface Letter {
  readonly to: Pid;
  /** Any JSON value. */
  readonly body: unknown;
  readonly kind?: MessageKind;
  /** `critical` is kept for the kernel, parents and escalations: from others it counts as `high`. */
  readonly priority?: Priority;
  /** Milliseconds after which nobody reads it any more. */
  readonly ttlMs?: number;
  readonly replyTo?: string;
  /** A second letter of the same sender under the same key is the first one. */
  readonly key?: string;
}

export interface Wanted {
  readonly from?: Pid;
  readonly kind?: MessageKind;
  readonly replyTo?: string;
  /** Who was asked: when it has ended, and gone into no other, nobody answers (ESRCH). */
  readonly asked?: Pid;
  /** Milliseconds to wait; 0 looks once, without it there is no end. */
  readonly waitMs?: number;
  /** It comes back after so many milliseconds unless it is acknowledged. */
  readonly leaseMs?: number;
  readonly signal?: AbortSignal;
  /** Throws when the reader may not read any more: it may have waited long. */
  readonly assertMay?: () => void;
}

/** A message that goes along with a commit of its sender's. */
export interface Notice {
  readonly to: Pid;
  readonly puts: NonNullable<Batch["puts"]>;
  /** The commit has succeeded. */
  readonly deliver: () => void;
  readonly undo: () => void;
}

export interface PostOfficeParts {
  readonly store: Metastore;
  readonly committer: Committer;
  readonly platform: Platform;
  readonly family: Family;
  /** A message waits for a process. */
  readonly arrived: (pid: Pid) => void;
  /** Number of this start of the host. */
  readonly epoch: () => number;
  readonly recall: (pid: Pid) => Promise<Process | undefined>;
}

const PREFIX = "m/";
const boxPrefix = (pid: Pid): string => `${PREFIX}${String(pid).padStart(10, "0")}/`;
const messageKey = ({ to, id }: Pick<Message, "to" | "id">): string => `${boxPrefix(to)}${id}`;
const seenKey = (to: Pid, from: Pid, key: string): string => `ms/${to}/${from}/${key}`;

/** Keys of senders that a host remembers for one receiver. */
const SEEN_MAX = 1000;
const PAGE = 1000;
/** Made at a time. */
const MARKS = 256;

export class PostOffice {
  readonly #parts: PostOfficeParts;
  readonly #boxes = new Map<Pid, Mailbox>();
  /** Messages by the keys of their senders, oldest first, for each receiver. */
  readonly #seen = new Map<Pid, Map<string, string>>();
  /** Letters with a key that are being stored: the same key at the same time is the same letter. */
  readonly #storing = new Map<string, Promise<{ readonly id: string }>>();
  /** Who waits for a letter of one process, by that: told when it has ended. */
  readonly #awaited = new Map<Pid, Set<() => void>>();
  #next = 1;
  #marks = new Uint32Array(0);

  constructor(parts: PostOfficeParts) {
    this.#parts = parts;
  }

  /** Brings back what waited when the host ended, and forgets what nobody will read. */
  async boot(): Promise<void> {
    const gone: string[] = [];
    const kept: { readonly message: Message; readonly size: number }[] = [];
    for await (const { key, value } of entriesOf(this.#parts.store, PREFIX)) {
      // Written by `#record` only.
      const message = JSON.parse(String(value)) as Message;
      const receiver = this.#parts.family.get(message.to);
      if (receiver === undefined || receiver.hasEnded) gone.push(key);
      else kept.push({ message, size: value.length });
    }
    // In the order in which they were sent, which is not that of their keys.
    for (const { message, size } of kept.toSorted((a, b) => orderOf(a.message, b.message))) this.#arrive(message, size);
    const seen: { readonly key: string; readonly to: Pid; readonly id: string }[] = [];
    for await (const { key, value } of entriesOf(this.#parts.store, "ms/")) {
      const to = toPid(Number(key.split("/")[1]));
      if (this.#parts.family.get(to) === undefined) gone.push(key);
      else seen.push({ key, to, id: String(value) });
    }
    // The oldest is forgotten first.
    for (const { key, to, id } of seen.toSorted(orderOf)) this.#seenOf(to).set(key, id);
    await this.#delete(gone);
  }

  /** Messages that wait for a process, in the order in which it will read them. */
  waiting(pid: Pid): readonly Message[] {
    return this.#boxes.get(pid)?.waiting ?? [];
  }

  /**
   * Sends a message; at a place of a journal once, over restarts too.
   * @throws {ESRCH} the receiver has ended · {EPERM} the sender may not write to it · {EAGAIN} its mailbox is full
   * @throws {E2BIG} the message is too large
   */
  async send(
    from: Process,
    letter: Letter,
    place?: string,
    rider?: Rider,
    along?: Along,
  ): Promise<{ readonly id: string }> {
    const journal = place === undefined ? undefined : from.journal;
    if (place === undefined || journal === undefined) return this.#send(from, letter, rider, undefined, along);
    const before = await journal.begin(place, "send");
    // Recorded below.
    if (before !== undefined) return from.replay(before) as { readonly id: string };
    try {
      const sent = await this.#send(from, letter, rider, place);
      from.usage.steps++;
      return sent;
    } catch (error) {
      journal.retract(place);
      throw error;
    }
  }

  async #send(
    from: Process,
    letter: Letter,
    rider: Rider | undefined,
    place?: string,
    along: Along = {},
  ): Promise<{ readonly id: string }> {
    const receiver = this.#receiver(letter.to, from);
    const route = routeOf(from, receiver, (pid) => this.#parts.family.parentOf(pid));
    const known = letter.key === undefined ? undefined : seenKey(letter.to, from.pid, letter.key);
    const first = known === undefined ? undefined : this.#seenOf(letter.to).get(known);
    if (first !== undefined) {
      await this.#record(from, place, first, {}, along, rider);
      return { id: first };
    }
    const storing = known === undefined ? undefined : this.#storing.get(known);
    if (storing !== undefined) {
      // Where that fails this one is the first.
      await storing.catch(() => undefined);
      return this.#send(from, letter, rider, place, along);
    }
    const sent = this.#store(from, letter, { receiver, route, known, place, along, rider });
    if (known === undefined) return sent;
    this.#storing.set(known, sent);
    try {
      return await sent;
    } finally {
      this.#storing.delete(known);
    }
  }

  async #store(
    from: Process,
    letter: Letter,
    {
      receiver,
      route,
      known,
      place,
      along,
      rider,
    }: {
      readonly receiver: Process;
      readonly route: Route;
      /** The key of the letter in the store. */
      readonly known: string | undefined;
      readonly place: string | undefined;
      readonly along: Along;
      readonly rider: Rider | undefined;
    },
  ): Promise<{ readonly id: string }> {
    const seen = known === undefined ? undefined : this.#seenOf(letter.to);
    const message = this.#write(from, letter, route);
    const text = encodeJson(message, "a message", LIMITS.messageBytesMax) ?? "";
    const { box, undo } = await this.#reserve(receiver, message, text.length);
    const copy = this.#copyOf(message, text.length, route);
    const stored = [message, ...(copy === undefined ? [] : [copy.message])].filter(({ to }) => this.#isStored(to));
    const puts = stored.map((one) => ({
      key: messageKey(one),
      value: one === message ? text : JSON.stringify(one),
    }));
    const oldest = seen !== undefined && seen.size >= SEEN_MAX ? seen.keys().next().value : undefined;
    try {
      await this.#record(
        from,
        place,
        message.id,
        {
          puts: known === undefined ? puts : [...puts, { key: known, value: message.id }],
          ...(oldest === undefined ? {} : { deletes: [oldest] }),
        },
        along,
        rider,
        [{ name: "message.sent", pid: from.pid, data: { id: message.id, to: message.to, kind: message.kind } }],
      );
    } catch (error) {
      undo();
      copy?.undo();
      throw error;
    }
    if (known !== undefined) seen?.set(known, message.id);
    if (oldest !== undefined) seen?.delete(oldest);
    this.#deliver(box, message, text.length);
    if (copy !== undefined) this.#deliver(copy.box, copy.message, text.length);
    return { id: message.id };
  }

  /** Commits what a message changes, with the step that it is sent in. */
  async #record(
    from: Process,
    place: string | undefined,
    id: string,
    batch: Pick<Batch, "puts" | "deletes">,
    along: Along,
    rider: Rider | undefined,
    events: readonly PendingEvent[] = [],
  ): Promise<void> {
    const { committer } = this.#parts;
    if (place !== undefined && from.journal !== undefined) {
      await from.journal.end(place, { value: { id } }, { ...batch, rider }).done;
      for (const event of events) committer.publish(event);
    } else if ((batch.puts?.length ?? 0) > 0 || Object.keys(along).length > 0) {
      await committer.commit(merge(batch, along), along.events, rider);
      for (const event of events) committer.publish(event);
    } else for (const event of events) committer.publish(event);
  }

  /** Tells the process above something that goes along with a commit; nothing where nobody would read it. */
  notice(from: Process, kind: "exit" | "escalation", body: unknown): Notice | undefined {
    const above = this.#parts.family.parentOf(from.pid);
    const reader = above === undefined || above === PID_OWNER ? undefined : this.#parts.family.get(above);
    if (reader === undefined || !reader.isAlive || reader.isEnding) return undefined;
    const box = this.#boxOf(reader.pid);
    const letter = { to: reader.pid, body, kind, ...(kind === "exit" ? { priority: "high" as const } : {}) };
    const message = this.#write(from, letter, { relation: "child" });
    const value = JSON.stringify(message);
    const { length } = value;
    // What must be told may go beyond what others may send, up to twice as much.
    if (box.count >= 2 * LIMITS.mailboxMax || box.size + length > 2 * LIMITS.mailboxBytesMax) return undefined;
    box.reserve(length);
    return {
      to: reader.pid,
      puts: this.#isStored(reader.pid) ? [{ key: messageKey(message), value }] : [],
      deliver: () => this.#deliver(box, message, length),
      undo: () => box.free(length),
    };
  }

  /** A process is run anew: what its last life held under a lease waits again. */
  reclaim(pid: Pid): void {
    const box = this.#boxes.get(pid);
    for (const [id, { item, cancel }] of box?.leased ?? []) {
      cancel();
      box?.leased.delete(id);
      box?.putBack(item);
    }
  }

  #write(from: Process, letter: Letter, { relation }: Route): Message {
    const { committer } = this.#parts;
    const { to, kind = "message", ttlMs, replyTo } = letter;
    const at = committer.now();
    const isAbove = relation === "system" || relation === "parent" || kind === "escalation";
    const wanted = letter.priority ?? (kind === "escalation" ? "critical" : "normal");
    return {
      // Only who has the message knows its id: nobody else answers it.
      id: `${this.#parts.epoch()}-${this.#next++}-${this.#mark()}`,
      from: from.pid,
      to,
      kind,
      relation,
      priority: PRIORITIES[wanted] === 0 && !isAbove ? "high" : wanted,
      body: committer.masker?.maskData(letter.body ?? null) ?? letter.body ?? null,
      at,
      ...(ttlMs === undefined ? {} : { expires: at + ttlMs }),
      ...(replyTo === undefined ? {} : { replyTo }),
    };
  }

  /** Digits that nobody can guess, of 64 bits. */
  #mark(): string {
    if (this.#marks.length === 0)
      this.#marks = new Uint32Array(copyBytes(this.#parts.platform.random(8 * MARKS)).buffer);
    const [one = 0, two = 0] = this.#marks;
    this.#marks = this.#marks.subarray(2);
    return one.toString(36) + two.toString(36);
  }

  #receiver(pid: Pid, from: Process): Process {
    const receiver = this.#parts.family.get(pid);
    if (receiver !== undefined && receiver.isAlive && !receiver.isEnding) return receiver;
    if (receiver?.state.name === "quarantined")
      throw new KernelError("EQUARANTINE", `process ${pid} is quarantined: nobody reads what is sent to it`, {
        syscall: "send",
        pid: from.pid,
      });
    throw new KernelError("ESRCH", `process ${pid} has ended, or never was: nobody reads what is sent to it`, {
      syscall: "send",
      pid: from.pid,
    });
  }

  async #reserve(
    receiver: Process,
    { kind }: Message,
    size: number,
  ): Promise<{ readonly box: Mailbox; readonly undo: () => void }> {
    const box = this.#boxOf(receiver.pid);
    // What was asked for may go beyond what others may send.
    const share = kind === "reply" ? 2 : 1;
    const isFull = (): boolean =>
      box.count >= share * LIMITS.mailboxMax || box.size + size > share * LIMITS.mailboxBytesMax;
    if (isFull()) await this.#expire(receiver, box);
    if (isFull())
      throw new KernelError(
        "EAGAIN",
        `the mailbox of process ${receiver.pid} is full: ${box.count} messages, ${box.size} bytes; send again when it has read some`,
        { syscall: "send", pid: receiver.pid },
      );
    box.reserve(size);
    return { box, undo: () => box.free(size) };
  }

  /** Makes the room free of what nobody reads any more. */
  async #expire({ pid }: Process, box: Mailbox): Promise<void> {
    const now = this.#parts.committer.now();
    const expired: Item[] = [];
    for (let item; (item = box.take(({ expires }) => expires !== undefined && expires <= now)) !== undefined;)
      expired.push(item);
    await this.#letGo(pid, box, expired);
  }

  async #letGo(pid: Pid, box: Mailbox, expired: readonly Item[]): Promise<void> {
    for (const { message, size } of expired) {
      box.free(size);
      this.#parts.committer.publish({ name: "message.expired", pid, data: { id: message.id } });
    }
    if (this.#isStored(pid)) await this.#delete(expired.map(({ message }) => messageKey(message)));
  }

  /** The copy for whoever stands between; it never keeps the message itself from its way. */
  #copyOf(
    message: Message,
    size: number,
    { copyTo }: Route,
  ): { readonly message: Message; readonly box: Mailbox; readonly undo: () => void } | undefined {
    const reader = copyTo === undefined ? undefined : this.#parts.family.get(copyTo);
    if (reader === undefined || !reader.isAlive || reader.isEnding) return undefined;
    const box = this.#boxOf(reader.pid);
    // The other half is for what is meant for it.
    if (box.count >= LIMITS.mailboxMax / 2 || box.size + size > LIMITS.mailboxBytesMax / 2) return undefined;
    box.reserve(size);
    const { id, from, to, body, at, expires } = message;
    const copy: Message = {
      id: `${id}c`,
      from,
      to: reader.pid,
      kind: "copy",
      relation: "child",
      priority: "low",
      body: { to, kind: message.kind, body },
      at,
      ...(expires === undefined ? {} : { expires }),
    };
    return { message: copy, box, undo: () => box.free(size) };
  }

  #deliver(box: Mailbox, message: Message, size: number): void {
    // Its reader may have ended during the commit.
    if (this.#boxes.get(message.to) === box) {
      box.add(message, size);
      this.#parts.arrived(message.to);
    } else if (this.#isStored(message.to)) void this.#delete([messageKey(message)]).catch(() => undefined);
  }

  /**
   * Takes the next message; at a place of a journal once, over restarts too.
   * @returns nothing when none came in time
   */
  async receive(process: Process, wanted: Wanted, place?: string, rider?: Rider): Promise<Message | undefined> {
    const journal = place === undefined ? undefined : process.journal;
    if (journal !== undefined && wanted.leaseMs !== undefined)
      throw new KernelError(
        "EINVAL",
        "a message that is read at a place is the step's: leave out leaseMs, or the place",
        {
          syscall: "receive",
          pid: process.pid,
        },
      );
    const before = place === undefined ? undefined : await journal?.begin(place, "receive");
    // Recorded below; of nobody's message it was null.
    if (before !== undefined) return (process.replay(before) as Message | null) ?? undefined;
    let item: Item | undefined;
    const box = this.#boxOf(process.pid);
    try {
      item = await this.#nextFor(process, box, wanted);
      if (item !== undefined) wanted.assertMay?.();
      if (item !== undefined && wanted.leaseMs !== undefined) {
        this.#lease(box, item, wanted.leaseMs);
        return item.message;
      }
      const deletes = item === undefined || !this.#isStored(process.pid) ? [] : [messageKey(item.message)];
      if (place !== undefined && journal !== undefined) {
        await journal.end(place, { value: item?.message ?? null }, { deletes, rider }).done;
        process.usage.steps++;
      } else if (deletes.length > 0) await this.#parts.committer.commit({ deletes }, undefined, rider);
      if (item !== undefined) box.free(item.size);
      return item?.message;
    } catch (error) {
      if (item !== undefined) box.putBack(item);
      if (place !== undefined) journal?.retract(place);
      throw error;
    }
  }

  /**
   * The next message that has not expired.
   * @throws {ESRCH} it is to come from a process that has ended
   */
  async #nextFor(process: Process, box: Mailbox, wanted: Wanted): Promise<Item | undefined> {
    const { from, kind, replyTo, waitMs } = wanted;
    let { asked = from } = wanted;
    const signal = process.signalWith(wanted.signal);
    const isAny = from === undefined && kind === undefined && replyTo === undefined;
    const matches = isAny
      ? undefined
      : (message: Message): boolean =>
          (from === undefined || message.from === from) &&
          (kind === undefined || message.kind === kind) &&
          (replyTo === undefined || message.replyTo === replyTo);
    const { committer, platform } = this.#parts;
    const until = waitMs === undefined ? undefined : platform.clock.monotonic() + waitMs;
    for (;;) {
      let item = box.take(matches);
      if (item === undefined && waitMs === 0) return undefined;
      if (item === undefined && asked !== undefined) {
        asked = await this.#asked(process, asked, from === undefined);
        item = box.take(matches);
      }
      if (item === undefined) {
        const left = until === undefined ? undefined : Math.max(0, until - platform.clock.monotonic());
        const arrived = await this.#wait(process, box, { matches, asked, waitMs: left, signal });
        // A timer may end a little early.
        if (arrived === "late" && (until === undefined || until <= platform.clock.monotonic())) return undefined;
        if (arrived === "late" || arrived === "gone") continue;
        item = arrived;
      }
      const { expires } = item.message;
      if (expires === undefined || expires > committer.now()) return item;
      await this.#letGo(process.pid, box, [item]);
    }
  }

  /** Whom an answer may come from now: who was asked, or the process that it has gone into. */
  async #asked(reader: Process, asked: Pid, isFollowed: boolean): Promise<Pid> {
    for (let pid: Pid | undefined = asked; pid !== undefined;) {
      const process: Process | undefined = this.#parts.family.get(pid) ?? (await this.#parts.recall(pid));
      if (process !== undefined && !process.hasEnded) return pid;
      pid = isFollowed && process !== undefined ? intoOf(process) : undefined;
    }
    throw new KernelError("ESRCH", `process ${asked} has ended, or never was: it sends nothing`, {
      syscall: "receive",
      pid: reader.pid,
    });
  }

  async #wait(
    process: Process,
    box: Mailbox,
    {
      matches,
      asked,
      waitMs,
      signal,
    }: {
      readonly matches: ((message: Message) => boolean) | undefined;
      readonly asked: Pid | undefined;
      readonly waitMs: number | undefined;
      readonly signal: AbortSignal;
    },
  ): Promise<Item | "late" | "gone"> {
    signal.throwIfAborted();
    const arrived = Promise.withResolvers<Item | "late" | "gone">();
    let taken: Item | undefined;
    // What it has sent before it ended is delivered first.
    const onGone = (): void => this.#parts.platform.defer(() => arrived.resolve("gone"));
    const forget = asked === undefined ? undefined : this.#onEnd(asked, onGone);
    const stop = box.wait(matches, (item) => {
      taken = item;
      arrived.resolve(item);
    });
    const timer =
      waitMs === undefined ? undefined : this.#parts.platform.setTimer(waitMs, () => arrived.resolve("late"));
    const wait = process.waitFor("message");
    try {
      const outcome = await orAborted(arrived.promise, signal);
      return taken ?? outcome;
    } catch (error) {
      // It came in the moment in which nobody wanted it any more.
      if (taken !== undefined) box.putBack(taken);
      throw error;
    } finally {
      stop();
      forget?.();
      timer?.cancel();
      process.stopWaiting(wait);
    }
  }

  /** Calls `tell` when a process has ended; returns what forgets that. */
  #onEnd(pid: Pid, tell: () => void): () => void {
    const told = this.#awaited.get(pid) ?? new Set();
    this.#awaited.set(pid, told.add(tell));
    return () => {
      told.delete(tell);
      if (told.size === 0 && this.#awaited.get(pid) === told) this.#awaited.delete(pid);
    };
  }

  #lease(box: Mailbox, item: Item, leaseMs: number): void {
    const { id } = item.message;
    const timer = this.#parts.platform.setTimer(
      leaseMs,
      () => {
        if (box.leased.delete(id)) box.putBack(item);
      },
      { idle: true },
    );
    box.leased.set(id, { item, cancel: () => timer.cancel() });
  }

  /**
   * The message was dealt with: it does not come back.
   * @throws {ESTALE} its lease is over, or there was none
   */
  async ack(process: Process, id: string, rider?: Rider): Promise<void> {
    const box = this.#boxOf(process.pid);
    const held = box.leased.get(id);
    if (held === undefined)
      throw new KernelError("ESTALE", `process ${process.pid} holds no message ${id}; its lease may be over`, {
        syscall: "ack",
        pid: process.pid,
      });
    held.cancel();
    box.leased.delete(id);
    try {
      if (this.#isStored(process.pid))
        await this.#parts.committer.commit({ deletes: [messageKey(held.item.message)] }, undefined, rider);
    } catch (error) {
      box.putBack(held.item);
      throw error;
    }
    box.free(held.item.size);
  }

  /** @throws {EAGAIN} the mailbox of the other has no room for what waits */
  assertRoom(from: Process, to: Process): void {
    const { count = 0, size = 0 } = this.#boxes.get(from.pid) ?? {};
    const room = this.#boxOf(to.pid);
    if (room.count + count > LIMITS.mailboxMax || room.size + size > LIMITS.mailboxBytesMax)
      throw new KernelError(
        "EAGAIN",
        `the mailbox of process ${to.pid} has no room for ${count} more messages; let it read some first`,
        { pid: to.pid },
      );
  }

  /**
   * What waits for a process that ends, as another reads it from now on: also what it has taken and not acknowledged,
   * and what was on its way. None of that is refused any more, whatever room the other has.
   */
  async forward(from: Process, to: Process): Promise<Forwarding> {
    const box = this.#boxes.get(from.pid);
    // Nothing new is sent to it; what is being stored arrives with its commit.
    while (box !== undefined && box.count > box.waiting.length + box.leased.size)
      await new Promise<void>((go) => this.#parts.platform.defer(go));
    const leased = [...(box?.leased.values() ?? [])].map(({ item }) => item.message);
    const messages = [...(box?.waiting ?? []), ...leased];
    const moved = messages.map((message): Message => ({ ...message, to: to.pid }));
    const texts = moved.map((message) => JSON.stringify(message));
    return {
      puts: this.#isStored(to.pid)
        ? moved.map((message, at) => ({ key: messageKey(message), value: texts[at] ?? "" }))
        : [],
      deletes: this.#isStored(from.pid) ? messages.map(messageKey) : [],
      moved: () => {
        for (const { cancel } of box?.leased.values() ?? []) cancel();
        this.#boxes.delete(from.pid);
        for (const [at, message] of moved.entries()) this.#arrive(message, texts[at]?.length ?? 0);
        if (moved.length > 0) this.#parts.arrived(to.pid);
      },
    };
  }

  /** Gives messages that wait for a process to others, in one commit; where that is refused they wait on. */
  async deal(from: Process, to: (message: Message) => Pid | undefined): Promise<void> {
    const box = this.#boxOf(from.pid);
    const readerOf = (message: Message): Pid | undefined => {
      const pid = to(message);
      const reader = pid === undefined ? undefined : this.#parts.family.get(pid);
      return reader?.isAlive === true && !reader.isEnding ? pid : undefined;
    };
    const dealt: { readonly item: Item; readonly box: Mailbox; readonly message: Message; readonly text: string }[] =
      [];
    // Out of the box first: nobody reads what is on its way to another.
    for (;;) {
      const item = box.take((message) => readerOf(message) !== undefined);
      const pid = item === undefined ? undefined : readerOf(item.message);
      if (item === undefined || pid === undefined) break;
      const message: Message = { ...item.message, to: pid };
      const text = JSON.stringify(message);
      const other = this.#boxOf(pid);
      other.reserve(text.length);
      dealt.push({ item, box: other, message, text });
    }
    if (dealt.length === 0) return;
    try {
      await this.#parts.committer.commit({
        puts: dealt.flatMap(({ message, text }) =>
          this.#isStored(message.to) ? [{ key: messageKey(message), value: text }] : [],
        ),
        deletes: this.#isStored(from.pid) ? dealt.map(({ item }) => messageKey(item.message)) : [],
      });
    } catch (error) {
      for (const { item, box: other, text } of dealt) {
        other.free(text.length);
        box.putBack(item);
      }
      throw error;
    }
    for (const { item, box: other, message, text } of dealt) {
      box.free(item.size);
      this.#deliver(other, message, text.length);
    }
  }

  /** Forgets what waits for a process that has ended, and tells who waits for it (G4). */
  drop(pid: Pid): Promise<void> | undefined {
    for (const tell of this.#awaited.get(pid) ?? []) tell();
    const box = this.#boxes.get(pid);
    const seen = [...(this.#seen.get(pid)?.keys() ?? [])];
    this.#boxes.delete(pid);
    this.#seen.delete(pid);
    const leased = [...(box?.leased.values() ?? [])];
    for (const { cancel } of leased) cancel();
    const kept = [...(box?.waiting ?? []), ...leased.map(({ item }) => item.message)];
    const keys = [...kept.map(messageKey), ...seen];
    return keys.length === 0 ? undefined : this.#delete(keys);
  }

  async #delete(keys: readonly string[]): Promise<void> {
    for (let at = 0; at < keys.length; at += PAGE)
      await this.#parts.committer.commit({ deletes: keys.slice(at, at + PAGE) });
  }

  #arrive(message: Message, size: number): void {
    const box = this.#boxOf(message.to);
    box.reserve(size);
    box.add(message, size);
  }

  /** Whether messages for a process outlive the host: its own record does, or it is the owner's. */
  #isStored(pid: Pid): boolean {
    return pid === PID_OWNER || this.#parts.family.get(pid)?.journal !== undefined;
  }

  #boxOf(pid: Pid): Mailbox {
    let box = this.#boxes.get(pid);
    if (box === undefined) this.#boxes.set(pid, (box = new Mailbox()));
    return box;
  }

  #seenOf(pid: Pid): Map<string, string> {
    let seen = this.#seen.get(pid);
    if (seen === undefined) this.#seen.set(pid, (seen = new Map<string, string>()));
    return seen;
  }
}

/** The process that another has gone into, as its end says. */
function intoOf({ state }: Process): Pid | undefined {
  const result = state.name === "zombie" && state.exit.code === 0 ? state.exit.result : undefined;
  const into = typeof result === "object" && result !== null && "merged" in result ? result.merged : undefined;
  return typeof into === "number" && Number.isSafeInteger(into) && into > 0 ? toPid(into) : undefined;
}

/** By the epochs and the numbers of their ids: the order in which they were sent. */
function orderOf(one: Pick<Message, "id">, two: Pick<Message, "id">): number {
  const [epoch = 0, number = 0] = one.id.split("-").map((part) => Number.parseInt(part, 10));
  const [otherEpoch = 0, otherNumber = 0] = two.id.split("-").map((part) => Number.parseInt(part, 10));
  return epoch - otherEpoch || number - otherNumber;
}
