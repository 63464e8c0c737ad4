// A mailbox: messages for one process in the order in which it should read them.
//
// Q1  Ageing is linear and the same for all, so that order never changes while messages wait: the key is priority
//     and time of sending alone, and taking the first costs O(log n).
// Q2  Ties go by relation, then first come first served.

import { Heap } from "../base/heap.ts";
import type { Pid } from "../base/id.ts";

/** Lower is read first. A message gains one step in ten seconds of waiting. */
export const PRIORITIES = { critical: 0, high: 1, normal: 2, low: 3 } as const;
export type Priority = keyof typeof PRIORITIES;
export const AGEING_MS = 10_000;

export const MESSAGE_KINDS = ["message", "task", "reply", "escalation", "copy", "exit"] as const;
export type MessageKind = (typeof MESSAGE_KINDS)[number];

/** What the sender is to the receiver, nearest first. */
export const RELATIONS = ["system", "parent", "sibling", "child", "other"] as const;
export type Relation = (typeof RELATIONS)[number];

export interface Message {
  /** Unique in a data directory. */
  readonly id: string;
  readonly from: Pid;
  readonly to: Pid;
  readonly kind: MessageKind;
  readonly relation: Relation;
  readonly priority: Priority;
  /** Any JSON value. */
  readonly body: unknown;
  /** Wall-clock milliseconds at which it was sent. */
  readonly at: number;
  /** Instant after which nobody reads it. */
  readonly expires?: number;
  /** The message that this one answers. */
  readonly replyTo?: string;
  /** The process in whose branch both ends are, where neither is the other's parent or sibling. */
  readonly via?: Pid;
}

/** A message with what its place in the order follows from. */
export interface Item {
  readonly message: Message;
  readonly key: number;
  readonly rank: number;
  readonly number: number;
  /** Of JSON, as the bound counts it. */
  readonly size: number;
}

type Matches = (message: Message) => boolean;

const before = (one: Item, two: Item): boolean =>
  one.key !== two.key ? one.key < two.key : one.rank !== two.rank ? one.rank < two.rank : one.number < two.number;

export class Mailbox {
  readonly #items = new Heap<Item>(before);
  readonly #waiting: { readonly matches: Matches | undefined; readonly take: (item: Item) => void }[] = [];
  /** Messages that were taken and must be acknowledged, or come back. */
  readonly leased = new Map<string, { readonly item: Item; readonly cancel: () => void }>();
  #arrived = 0;
  /** Messages and their sizes, with those on their way and those leased. */
  count = 0;
  size = 0;

  /** Room for a message that is about to be stored. */
  reserve(size: number): void {
    this.count++;
    this.size += size;
  }

  /** The room of a message that is gone for good. */
  free(size: number): void {
    this.count--;
    this.size -= size;
  }

  /** Adds a message whose room is reserved, or hands it to who waits for one like it. */
  add(message: Message, size: number): void {
    const item: Item = {
      message,
      key: PRIORITIES[message.priority] * AGEING_MS + message.at,
      rank: RELATIONS.indexOf(message.relation),
      number: this.#arrived++,
      size,
    };
    this.putBack(item);
  }

  /** An item that was taken and not read after all. */
  putBack(item: Item): void {
    const at = this.#waiting.findIndex(({ matches }) => matches === undefined || matches(item.message));
    if (at >= 0) {
      this.#waiting.splice(at, 1)[0]?.take(item);
      return;
    }
    this.#items.add(item);
  }

  /** The first message, or the first that matches. */
  take(matches?: Matches): Item | undefined {
    return this.#items.take(matches === undefined ? undefined : ({ message }) => matches(message));
  }

  /** Calls `take` with the next message that matches; returns what gives up waiting. */
  wait(matches: Matches | undefined, take: (item: Item) => void): () => void {
    const waiter = { matches, take };
    this.#waiting.push(waiter);
    return () => {
      const at = this.#waiting.indexOf(waiter);
      if (at >= 0) this.#waiting.splice(at, 1);
    };
  }

  /** Messages that nobody has taken, in the order in which they will be. */
  get waiting(): readonly Message[] {
    return this.#items.sorted.map(({ message }) => message);
  }
}
