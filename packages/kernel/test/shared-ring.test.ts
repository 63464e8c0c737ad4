// Streams in memory that threads share: against a model in one thread, and with real threads that write at once and end in
// the middle of it.

import { Worker } from "node:worker_threads";
import { type Seq, SharedRing, isKernelError, toSeq } from "@ergos/kernel";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";

const filled = (length: number, value: number): Uint8Array => new Uint8Array(length).fill(value & 255);

/** All entries behind a position, as far as they are kept. */
function drain(ring: SharedRing, after?: Seq): { readonly bytes: Uint8Array; readonly seq: Seq }[] {
  const out = [];
  for (let entry = ring.next(after); entry !== undefined; entry = ring.next(entry.seq)) out.push(entry);
  return out;
}

describe("in one thread", () => {
  test("what is kept is always the newest, in its order, whatever the sizes", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 400 }),
        fc.array(fc.array(fc.integer({ min: 0, max: 120 }), { minLength: 1, maxLength: 3 }), { maxLength: 60 }),
        (capacity, batches) => {
          const ring = new SharedRing(SharedRing.make(capacity), 1);
          const all: string[] = [];
          let count = 0;
          for (const sizes of batches) {
            const contents = sizes.map((size) => filled(size, count++));
            try {
              const seq = ring.append(contents, count);
              all.push(...contents.map(String));
              expect(ring.next(seq)).toBeUndefined();
            } catch (error) {
              expect(isKernelError(error) && error.code).toBe("E2BIG");
            }
            const kept = drain(ring);
            const newest = all.slice(all.length - kept.length);
            expect(kept.map(({ bytes }) => String(bytes))).toEqual(newest);
            if (all.length > 0) expect(kept.length).toBeGreaterThan(0);
            for (const [at, { seq }] of kept.entries()) expect(drain(ring, seq)).toHaveLength(kept.length - at - 1);
          }
        },
      ),
    );
  });

  test("positions that nothing ended at, and those that are not kept, are refused", () => {
    const ring = new SharedRing(SharedRing.make(128), 1);
    expect(ring.next()).toBeUndefined();
    const first = ring.append([filled(8, 1)]);
    ring.append([filled(8, 2)]);
    for (const wrong of [1, 8, 25, 1000]) expect(() => ring.next(toSeq(wrong))).toThrow(/ESTALE/);
    for (let at = 0; at < 10; at++) ring.append([filled(8, 3)]);
    expect(() => ring.next(first)).toThrow(/the earliest is at/);
    expect(ring.next()?.bytes).toEqual(filled(8, 3));
    expect(() => ring.append([filled(ring.entryMax + 1, 0)])).toThrow(/E2BIG/);
    expect(() => SharedRing.make(2 ** 52)).toThrow(/ENOMEM/);
    const largest = ring.append([filled(ring.entryMax, 9)]);
    expect([drain(ring).at(-1)?.seq, ring.next(largest)]).toEqual([largest, undefined]);
  });

  test("whoever waits hears of what comes, of its time and of the end", async () => {
    const ring = new SharedRing(SharedRing.make(128), 1);
    const arrived = ring.arrival(toSeq(0));
    const seq = ring.append([filled(1, 1)]);
    await arrived;
    await ring.arrival(toSeq(0));
    await ring.arrival(seq, 5);
    ring.block(seq, 5);
    const over = ring.arrival(seq);
    ring.close();
    await over;
    expect(ring.isOver).toBe(true);
    expect(() => ring.append([filled(1, 1)])).toThrow(/ENOENT/);
  });

  test("the turn of a writer that is gone is over: at once where it is told, else after a while", () => {
    const memory = SharedRing.make(128);
    const stuck = new Int32Array(memory, 0, 64);
    const ring = new SharedRing(memory, 1);
    stuck[32] = 7;
    ring.forget(8);
    ring.forget(7);
    ring.append([filled(1, 1)]);
    stuck[32] = 7;
    ring.append([filled(1, 2)]);
    expect(drain(ring)).toHaveLength(2);
  });
});

describe("with a thread that misbehaves", () => {
  test("an append that must not block lets its thread go on meanwhile", async () => {
    const memory = SharedRing.make(128);
    const ring = new SharedRing(memory, 1);
    new Int32Array(memory, 0, 64)[32] = 7;
    const appended = Promise.all([ring.appendSoon([filled(1, 1)]), ring.appendSoon([filled(1, 2)])]);
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(drain(ring)).toEqual([]);
    ring.forget(7);
    expect((await appended).toSorted()).toEqual(drain(ring).map(({ seq }) => seq));
    expect(drain(ring).map(({ bytes }) => bytes[0])).toEqual([1, 2]);
  });

  test("what is appended without blocking stands in the order in which it was given", async () => {
    const memory = SharedRing.make(4096);
    const ring = new SharedRing(memory, 1);
    const appends: Promise<unknown>[] = [];
    for (let at = 0; at < 30; at++) {
      // Another has the turn now and then.
      if (at % 7 === 3) new Int32Array(memory, 0, 64)[32] = 9;
      appends.push(ring.appendSoon([filled(1, at)]));
      if (at % 7 === 5) ring.forget(9);
      if (at % 3 === 0) await Promise.resolve();
    }
    ring.forget(9);
    await Promise.all(appends);

    expect(drain(ring).map(({ bytes }) => bytes[0])).toEqual(Array.from({ length: 30 }, (_, at) => at));
  });

  test("whatever it writes into the memory, others hear of damage or read what stands there, and end", () => {
    const word = fc.tuple(fc.nat(95), fc.oneof(fc.integer(), fc.constantFrom(0, 1, -1, 0x7ff0_0000, 0xffff_ffff | 0)));
    fc.assert(
      fc.property(
        fc.array(fc.nat(40), { maxLength: 8 }),
        fc.array(word, { minLength: 1, maxLength: 6 }),
        (sizes, words) => {
          const memory = SharedRing.make(128);
          const ring = new SharedRing(memory, 1);
          for (const size of sizes) ring.append([filled(size, 1)]);
          // The turn stays nobody's: whose it is is for the waiting above.
          for (const [at, value] of words) if (at !== 32) new Int32Array(memory)[at] = value;
          for (const act of [
            (): unknown => ring.next(),
            (): unknown => ring.append([filled(40, 2)]),
            () => ring.next(),
          ])
            try {
              act();
            } catch (error) {
              if (!isKernelError(error)) throw error;
              expect(["ECORRUPT", "ESTALE", "ENOENT"]).toContain(error.code);
            }
        },
      ),
      { numRuns: 2000 },
    );
  });
});

/** Appends what can be checked: its writer, a number that rises, and a length that follows from it. */
const WRITER = `
  import { workerData, parentPort } from "node:worker_threads";
  const { SharedRing } = await import(workerData.kernel);
  const ring = new SharedRing(workerData.memory, workerData.writer);
  const batch = (count) => Array.from({ length: 1 + (count % 3) }, (_, at) => {
    const bytes = new Uint8Array(8 + ((count * 7 + at) % 90)).fill(workerData.writer);
    new DataView(bytes.buffer).setUint32(0, count * 4 + at);
    return bytes;
  });
  parentPort.postMessage("ready");
  for (let count = 0; count < workerData.times; count++) ring.append(batch(count));
`;

function startWriter(memory: SharedArrayBuffer, writer: number, times: number): Worker {
  const kernel = new URL("../src/vfs/shared-ring.ts", import.meta.url).href;
  const url = new URL(`data:text/javascript,${encodeURIComponent(WRITER)}`);
  return new Worker(url, { workerData: { memory, writer, times, kernel }, execArgv: ["--conditions=@ergos/source"] });
}
const ended = (worker: Worker): Promise<void> => new Promise((resolve) => worker.once("exit", () => resolve()));

/** Reads until nothing comes any more, checks that no entry is torn, and says how many came of whom. */
async function readAll(ring: SharedRing, isDone: () => boolean): Promise<ReadonlyMap<number, number>> {
  const counts = new Map<number, number>();
  const newest = new Map<number, number>();
  let position = toSeq(0);
  for (;;) {
    const hasEnded = isDone();
    let isEmpty = false;
    // Writers may be faster than this: the loop has to go on all the same.
    for (let turn = 0; turn < 500 && !isEmpty; turn++) {
      try {
        const entry = ring.next(position);
        isEmpty = entry === undefined;
        if (entry === undefined) break;
        position = entry.seq;
        const { bytes } = entry;
        const writer = bytes[7] ?? 0;
        const number = new DataView(bytes.buffer).getUint32(0);
        const [count, at] = [number >>> 2, number & 3];
        expect(bytes.length).toBe(8 + ((count * 7 + at) % 90));
        expect(new Set(bytes.subarray(4))).toEqual(new Set([writer]));
        expect(number).toBeGreaterThan(newest.get(writer) ?? -1);
        newest.set(writer, number);
        counts.set(writer, (counts.get(writer) ?? 0) + 1);
      } catch (error) {
        if (!isKernelError(error) || error.code !== "ESTALE") throw error;
        // It fell behind: it goes on with the oldest that is kept.
        position = toSeq(0);
      }
    }
    if (hasEnded && isEmpty) return counts;
    if (isEmpty) await ring.arrival(position, 5);
    else await new Promise((go) => setImmediate(go));
  }
}

describe("with real threads", () => {
  test("four writers and a reader: nothing is torn or out of its writer's order, and with room nothing is lost", async () => {
    const memory = SharedRing.make(8 * 1024 * 1024);
    const ring = new SharedRing(memory, 1);
    const times = 3000;
    const workers = [2, 3, 4, 5].map((writer) => startWriter(memory, writer, times));
    let left = workers.length;
    for (const worker of workers) void ended(worker).then(() => left--);
    const counts = await readAll(ring, () => left === 0);
    // One, two and three at a time.
    expect(counts).toEqual(new Map([2, 3, 4, 5].map((writer) => [writer, times * 2])));
  }, 30_000);

  test("a small ring that everybody overruns gives whole entries all the same", async () => {
    const memory = SharedRing.make(1024);
    const ring = new SharedRing(memory, 1);
    const workers = [2, 3].map((writer) => startWriter(memory, writer, 20_000));
    let left = workers.length;
    for (const worker of workers) void ended(worker).then(() => left--);
    const counts = await readAll(ring, () => left === 0);
    expect(new Set(counts.keys())).toEqual(new Set([2, 3]));
  }, 30_000);

  test("writers that are ended in the middle of anything leave the others a whole stream", async () => {
    const memory = SharedRing.make(64 * 1024);
    const ring = new SharedRing(memory, 1);
    let isOver = false;
    const reading = readAll(ring, () => isOver);
    for (let round = 0; round < 8; round++) {
      const writer = 10 + round;
      const worker = startWriter(memory, writer, Number.MAX_SAFE_INTEGER);
      await new Promise((ready) => worker.once("message", ready));
      await new Promise((go) => setTimeout(go, 5 + round * 3));
      const gone = ended(worker);
      await worker.terminate();
      await gone;
      ring.forget(writer);
    }
    isOver = true;
    expect((await reading).size).toBeGreaterThan(4);
  }, 30_000);
});
