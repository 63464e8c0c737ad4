// Cuts a run at every write, starts again, and compares with a run that nothing disturbed.
//
// C1  The result is that of the undisturbed run.
// C2  A step whose outcome reached the disk is not done again; none is lost.
// C3  A paid call has one key; it is sent again only if its outcome did not reach the disk.
// C4  At the end the account holds exactly what the recorded calls cost, and no reservation stands.

import { MemoryMetastore, MemoryObjectStore } from "@ergos/drivers/memory";
import { createNodePlatform } from "@ergos/drivers/platform-node";
import { Kernel, type Pid, SEQ_ZERO, toPid } from "@ergos/kernel";
import { type Chance, createChance } from "./random.ts";
import { type Death, SimulatedStore } from "./simulated-store.ts";
import { World, paidModel, thirtyNodes } from "./subject.ts";

const BUDGET = { tokensIn: 1_000_000, tokensOut: 1_000_000, costMicros: 100_000_000, modelCalls: 1000 };
const RUN: Pid = toPid(2);

export interface CutOutcome {
  readonly result: string;
  readonly commits: number;
  readonly steps: number;
  readonly costMicros: number;
}

async function boot(store: SimulatedStore, objects: MemoryObjectStore, world: World): Promise<Kernel> {
  return Kernel.boot({
    store,
    objects,
    platform: createNodePlatform(),
    models: [paidModel(world)],
    programs: [thirtyNodes(world)],
  });
}

/** The run as nothing disturbs it. */
export async function undisturbed(): Promise<CutOutcome> {
  const store = new SimulatedStore(new MemoryMetastore());
  const kernel = await boot(store, new MemoryObjectStore(), new World());
  const pid = await kernel.os.spawn("thirty", { input: { start: 3 }, budget: BUDGET });
  const exit = await kernel.os.wait(pid);
  if (exit.code !== 0) throw new TypeError(`the undisturbed run failed: ${JSON.stringify(exit.error)}`);
  const process = kernel.host.processes.get(pid);
  return {
    result: JSON.stringify(exit.result),
    commits: store.commits,
    steps: process?.usage.steps ?? 0,
    costMicros: process?.usage.costMicros ?? 0,
  };
}

/** Steps whose outcome is on the disk: they must not be done again. */
async function recordedPlaces(store: MemoryMetastore): Promise<ReadonlySet<string>> {
  const places = new Set<string>();
  for (const { value } of await store.readLog(`j/${RUN}`, { after: SEQ_ZERO, limit: 100_000 })) {
    const record = JSON.parse(String(value)) as { t: string; p?: string };
    if (record.t === "step" && record.p !== undefined) places.add(record.p);
  }
  return places;
}

/** Runs until the end through one death at each of the given commits of successive lives. */
async function runWithDeaths(deaths: readonly Death[], expected: CutOutcome, power: Chance | undefined): Promise<void> {
  const world = new World();
  const objects = new MemoryObjectStore();
  let disk = new MemoryMetastore();
  for (let life = 0; ; life++) {
    const death = deaths[life];
    const store = new SimulatedStore(disk, death === undefined ? {} : { death });
    const before = new Map(world.done);
    const callsBefore = new Map(world.calls);
    const kept = await recordedPlaces(disk);
    const exit = await live(store, objects, world);
    assertNotRepeated(kept, before, world.done, "step");
    assertNotRepeated(new Set([...kept].map((place) => `thirty-${RUN}/${place}`)), callsBefore, world.calls, "call");
    if (exit !== undefined) {
      if (exit.result !== expected.result) throw new TypeError(`result ${exit.result}, expected ${expected.result}`);
      if (exit.costMicros !== expected.costMicros)
        throw new TypeError(`cost ${exit.costMicros}, expected ${expected.costMicros}`);
      // Without this the comparison of keys above would hold for nothing.
      if (world.calls.get(`thirty-${RUN}/n0/ask`) === undefined)
        throw new TypeError(`no paid call was seen: ${[...world.calls.keys()].join(", ")}`);
      await assertAccountClosed(disk);
      return;
    }
    disk = await store.survivor(power === undefined ? undefined : (from, to) => power.between(from, to));
  }
}

async function live(
  store: SimulatedStore,
  objects: MemoryObjectStore,
  world: World,
): Promise<{ result: string; costMicros: number } | undefined> {
  try {
    const kernel = await boot(store, objects, world);
    const known = await kernel.host.processes.recall(RUN);
    if (known === undefined) await kernel.os.spawn("thirty", { input: { start: 3 }, budget: BUDGET });
    else if (known.state.name === "sleeping") await kernel.os.resume(RUN, { program: thirtyNodes(world) });
    const exit = await Promise.race([kernel.os.wait(RUN), store.died.then(() => undefined)]);
    // A death in the middle of the exit is noticed by the exit's own failure.
    if (exit === undefined || store.isDead) return undefined;
    if (exit.code !== 0) throw new TypeError(`the run failed: ${JSON.stringify(exit.error)}`);
    return {
      result: JSON.stringify(exit.result),
      costMicros: (await kernel.host.processes.recall(RUN))?.usage.costMicros ?? 0,
    };
  } catch (error) {
    if (store.isDead) return undefined;
    throw error;
  }
}

function assertNotRepeated(
  kept: ReadonlySet<string>,
  before: ReadonlyMap<string, number>,
  after: ReadonlyMap<string, number>,
  what: string,
): void {
  for (const place of kept) {
    const [was, is] = [before.get(place) ?? 0, after.get(place) ?? 0];
    if (is > was) throw new TypeError(`the finished ${what} ${place} was done again`);
  }
}

/** The run's account is gone and everything of it is back: C4. */
async function assertAccountClosed(disk: MemoryMetastore): Promise<void> {
  const left = await disk.scan({ from: "a/", to: "a0" }, { limit: 100 });
  const open = left.filter(({ key }) => key.startsWith(`a/${RUN}/`));
  if (open.length > 0)
    throw new TypeError(
      `the account of an ended run still holds ${JSON.stringify(open.map(({ key, value }) => [key, String(value)]))}`,
    );
}

/** Every write boundary once, both ways. Returns how many were cut. */
export async function cutEverywhere(): Promise<number> {
  const expected = await undisturbed();
  let cuts = 0;
  for (let at = 1; at <= expected.commits; at++) {
    for (const isWritten of [false, true]) {
      await attempt(`--cut ${at} ${isWritten ? "written" : "lost"}`, () =>
        runWithDeaths([{ at, isWritten }], expected, undefined),
      );
      cuts++;
    }
  }
  return cuts;
}

/** Random rounds: up to four deaths in one run, half of them losses of power. */
export async function cutRandomly(seed: number, rounds: number): Promise<void> {
  const expected = await undisturbed();
  for (let round = 0; round < rounds; round++) {
    const chance = createChance(seed + round);
    const deaths = Array.from({ length: chance.between(1, 3) }, (): Death => ({
      at: chance.between(1, Math.max(2, expected.commits)),
      isWritten: chance.next() < 0.5,
    }));
    const power = chance.next() < 0.5 ? chance : undefined;
    await attempt(`npm run simulate -- --seed ${seed + round} --rounds 1`, () =>
      runWithDeaths(deaths, expected, power),
    );
  }
}

async function attempt(replay: string, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    throw new TypeError(
      `failed; replay it with: ${replay}\n  ${error instanceof Error ? error.message : String(error)}`,
      { cause: error },
    );
  }
}
