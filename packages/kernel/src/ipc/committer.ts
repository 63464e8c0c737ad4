// Where a change, its events and the request that caused it become one commit.

import type { Batch, Metastore, Receipt } from "../abi/metastore.ts";
import type { Clock } from "../abi/platform.ts";
import { EVENT_LOG, type EventBus, type Masker, type PendingEvent, encodeEvent } from "./event-bus.ts";
import { LIMITS } from "../base/limits.ts";
import { type Seq, toSeq } from "../base/id.ts";

/** Commits between two retention passes over the event log. */
const TRIM_EVERY = 4096;

/** How fast time goes on for what is stored while the clock of the machine is behind it: an hour is caught up in ten. */
const CATCHING_UP = 0.9;

/** What goes along with the commit of an effect, in the first that its call makes. */
export interface Rider {
  /** The batch with what rides along; the same batch when that has been taken already. */
  board(batch: Batch): Batch;
  /** The commit was refused: nothing has ridden along. */
  left(): void;
}

export class Committer {
  readonly #store: Metastore;
  readonly #bus: EventBus;
  readonly #clock: Clock;
  #masker: Masker | undefined;
  #lastInstant = 0;
  /** Since when the clock shows less than was stored: that, and monotonic milliseconds. */
  #behind: { readonly instant: number; readonly since: number } | undefined;
  #trimmedAt = 0;

  constructor(store: Metastore, bus: EventBus, clock: Clock) {
    this.#store = store;
    this.#bus = bus;
    this.#clock = clock;
  }

  /** Masks secrets in events, and for whoever records texts of users. */
  setMasker(masker: Masker): void {
    this.#masker = masker;
    this.#bus.setMasker(masker);
  }

  get masker(): Masker | undefined {
    return this.#masker;
  }

  get store(): Metastore {
    return this.#store;
  }

  /**
   * The instant to store, in wall-clock milliseconds: never smaller than the last one stored. Where the clock is behind
   * that, because it was set back, time goes on all the same, a little slower, until the clock has caught up: what is to
   * last a minute is over after one.
   */
  now(): number {
    const now = this.#clock.now();
    if (now >= this.#lastInstant) {
      this.#behind = undefined;
      return (this.#lastInstant = now);
    }
    const at = this.#clock.monotonic();
    this.#behind ??= { instant: this.#lastInstant, since: at };
    const { instant, since } = this.#behind;
    return (this.#lastInstant = Math.max(this.#lastInstant, Math.floor(instant + (at - since) * CATCHING_UP)));
  }

  /** Shows what `now` does, for alarms at instants that are stored. */
  get clock(): Clock {
    const now = (): number => this.now();
    return { now, monotonic: now };
  }

  /** Restored at boot from what the store holds. */
  notBefore(instant: number): void {
    if (instant <= this.#lastInstant) return;
    this.#lastInstant = instant;
    this.#behind = undefined;
  }

  /** Tells of something that no commit is about. */
  publish(event: PendingEvent): void {
    if (this.#bus.hasSubscribers) this.#bus.publish(event);
  }

  /** Commits a change with the records of its events, then tells who listens. */
  commit(batch: Batch, events?: readonly PendingEvent[], rider?: Rider): Promise<Receipt> {
    const full = rider === undefined ? batch : rider.board(batch);
    const hasEvents = events !== undefined && events.length > 0;
    const committing = this.#store.commit(hasEvents ? this.#withEvents(full, events) : full);
    if (rider !== undefined && full !== batch) committing.catch(() => rider.left());
    if (!hasEvents) return committing;
    return committing.then((receipt) => {
      for (const event of events) this.#bus.publish(event, receipt.seq);
      return receipt;
    });
  }

  #withEvents(batch: Batch, events: readonly PendingEvent[]): Batch {
    const at = this.now();
    const appends = [...(batch.appends ?? [])];
    for (const event of events) {
      const data = this.#masker?.maskData(event.data) ?? event.data;
      appends.push({ log: EVENT_LOG, value: encodeEvent({ ...event, data }, at) });
    }
    const oldest = this.#store.seq - LIMITS.eventRetention;
    if (oldest < this.#trimmedAt + TRIM_EVERY) return { ...batch, appends };
    this.#trimmedAt = oldest;
    const through: Seq = toSeq(oldest);
    return { ...batch, appends, trims: [...(batch.trims ?? []), { log: EVENT_LOG, through }] };
  }
}
