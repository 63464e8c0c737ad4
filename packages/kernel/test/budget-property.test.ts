// B1 over random trees of processes and random orders of spawns, calls, kills, additions and deaths of the host, held
// against a ledger of the test's own.

import { MemoryMetastore, MemoryObjectStore } from "@ergos/drivers/memory";
import { createOfflineModel } from "@ergos/drivers/model-offline";
import { type Kernel, type Model, type ModelResponse, type Os, type Pid, type Program, toPid } from "@ergos/kernel";
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { bootKernel } from "./kernel-fixture.ts";

type Resource = "tokensOut" | "modelCalls" | "costMicros";
const RESOURCES: readonly Resource[] = ["tokensOut", "modelCalls", "costMicros"];
/** Micro-dollars of a token. */
const PRICE = 3;

/** A call that the model has got and not answered. */
interface PendingCall {
  readonly pid: number;
  readonly place: string;
  readonly bound: number;
  readonly answer: PromiseWithResolvers<ModelResponse>;
}

/** What the test knows of a process: whom it spends from, and what was really used in its name. */
interface Known {
  readonly pid: Pid;
  readonly parent: Known | undefined;
  readonly given: Record<string, number>;
  readonly spent: Record<Resource, number>;
}

const budget = fc.record(
  { tokensOut: fc.nat(12), modelCalls: fc.nat(4), costMicros: fc.nat(40) },
  { requiredKeys: [] },
);
const step = fc.oneof(
  { weight: 4, arbitrary: fc.record({ do: fc.constant("spawn" as const), at: fc.nat(), budget }) },
  {
    weight: 6,
    arbitrary: fc.record({ do: fc.constant("call" as const), at: fc.nat(), bound: fc.integer({ min: 1, max: 5 }) }),
  },
  { weight: 4, arbitrary: fc.record({ do: fc.constant("answer" as const), at: fc.nat(), uses: fc.nat(5) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("fail" as const), at: fc.nat() }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("kill" as const), at: fc.nat() }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("add" as const), at: fc.nat(), budget }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("crash" as const) }) },
);

const turn = (): Promise<void> => new Promise((go) => setImmediate(go));
const settle = async (): Promise<void> => {
  for (let at = 0; at < 4; at++) await turn();
};

class World {
  store = new MemoryMetastore();
  readonly objects = new MemoryObjectStore();
  kernel: Kernel | undefined;
  processes: Known[] = [];
  calls: PendingCall[] = [];
  #contexts = new Map<number, Os>();
  #places = 0;
  /** Calls by their places, settled however they end. */
  readonly done = new Map<string, Promise<unknown>>();

  readonly #program: Program = {
    name: "actor",
    revision: "1",
    kind: "function",
    run: (context) => {
      this.#contexts.set(context.pid, context.os);
      return new Promise((_done, fail) =>
        context.signal.addEventListener("abort", () => fail(context.signal.reason as Error), { once: true }),
      );
    },
  };

  async boot(): Promise<void> {
    const offline = createOfflineModel({ name: "m" });
    const model: Model = {
      ...offline,
      effect: "once",
      price: { input: 0, output: PRICE },
      // A call may have waited for others: it is under way from here on.
      infer: (request, { idempotencyKey }) => {
        const answer = Promise.withResolvers<ModelResponse>();
        const [, pid = "", place = ""] = /actor-(\d+)\/(p\d+)#/.exec(idempotencyKey) ?? [];
        this.calls.push({ pid: Number(pid), place, bound: request.maxOutputTokens ?? 0, answer });
        return answer.promise;
      },
    };
    this.kernel = await bootKernel({
      store: this.store,
      objects: this.objects,
      programs: [this.#program],
      models: [model],
    });
  }

  get os(): Os {
    if (this.kernel === undefined) throw new TypeError("not booted");
    return this.kernel.os;
  }

  get living(): readonly Known[] {
    return this.processes.filter(({ pid }) => this.kernel?.host.processes.get(pid)?.isAlive === true);
  }

  async spawn(parent: Known | undefined, given: Record<string, number>): Promise<void> {
    const os = parent === undefined ? this.os : this.#contexts.get(parent.pid);
    const pid = await os?.spawn("actor", { budget: given }).catch(() => undefined);
    if (pid !== undefined)
      this.processes.push({ pid, parent, given: { ...given }, spent: { tokensOut: 0, modelCalls: 0, costMicros: 0 } });
  }

  begin(caller: Known, bound: number): void {
    const os = this.#contexts.get(caller.pid);
    const place = `p${this.#places++}`;
    const done = Promise.resolve()
      .then(() => os?.infer(place, { messages: [], maxOutputTokens: bound }))
      .catch(() => undefined);
    this.done.set(place, done);
  }

  take(at: number): PendingCall | undefined {
    const call = this.calls[at % Math.max(1, this.calls.length)];
    this.calls = this.calls.filter((one) => one !== call);
    return call;
  }

  charge(pid: number, tokens: number): void {
    const known = this.processes.find((one) => one.pid === pid);
    if (known === undefined) return;
    known.spent.tokensOut += tokens;
    known.spent.costMicros += tokens * PRICE;
    known.spent.modelCalls += 1;
  }

  /** Calls whose end nobody sees have spent what they had reserved. */
  lose(isLost: (call: PendingCall) => boolean): void {
    for (const call of this.calls.filter(isLost)) this.charge(call.pid, call.bound);
    this.calls = this.calls.filter((call) => !isLost(call));
  }

  async crash(): Promise<void> {
    const copy = new MemoryMetastore();
    for (const { puts, deletes, appends, trims } of await this.store.tail(0 as never, { limit: 1_000_000 }))
      await copy.commit({ puts, deletes, appends, trims });
    this.lose(() => true);
    this.store = copy;
    this.#contexts = new Map();
    await this.boot();
    for (const { pid, state } of await this.os.ps()) if (state === "sleeping") await this.os.resume(pid);
    await settle();
  }

  /** What a process and everything below it has used. */
  spentBelow(known: Known, resource: Resource): number {
    const own = known.spent[resource] + this.pendingOf(known, resource);
    return this.processes
      .filter(({ parent }) => parent === known)
      .reduce((sum, child) => sum + this.spentBelow(child, resource), own);
  }

  pendingOf(known: Known, resource: Resource): number {
    const calls = this.calls.filter(({ pid }) => pid === known.pid);
    if (resource === "modelCalls") return calls.length;
    return calls.reduce((sum, { bound }) => sum + bound * (resource === "costMicros" ? PRICE : 1), 0);
  }

  /** The counters of every open account are within its allocation, and are what the test has counted. */
  async check(): Promise<void> {
    for (const known of this.processes) {
      const record = await this.store.get(`A/${known.pid}`);
      if (record === undefined) continue;
      const { allocation } = JSON.parse(String(record.value)) as { allocation: Partial<Record<Resource, number>> };
      for (const resource of RESOURCES) {
        const limit = allocation[resource];
        if (limit === undefined) continue;
        const used = Number((await this.store.get(`a/${known.pid}/${resource}`))?.value ?? 0);
        expect(used).toBeLessThanOrEqual(limit);
        expect([known.pid, resource, used]).toEqual([known.pid, resource, await this.expected(known, resource)]);
      }
    }
  }

  /** Used in its name, and moved to or used by what is below it. */
  async expected(known: Known, resource: Resource): Promise<number> {
    let sum = known.spent[resource] + this.pendingOf(known, resource);
    for (const child of this.processes.filter(({ parent }) => parent === known)) {
      const record = await this.store.get(`A/${child.pid}`);
      const open =
        record === undefined
          ? {}
          : (JSON.parse(String(record.value)) as { allocation: Partial<Record<Resource, number>> }).allocation;
      // An open account holds all that was moved to it; any other only what was used.
      sum += open?.[resource] ?? (await this.expected(child, resource));
    }
    return sum;
  }
}

test("settled, reserved and allocated never exceed an allocation, and nothing is minted or lost", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 40 }), async (steps) => {
      const world = new World();
      await world.boot();
      await world.spawn(undefined, { tokensOut: 30, modelCalls: 10, costMicros: 100 });
      await settle();
      for (const action of steps) {
        const { living } = world;
        const chosen = "at" in action ? living[action.at % Math.max(1, living.length)] : undefined;
        if (action.do === "spawn") await world.spawn(chosen, { ...action.budget });
        else if (action.do === "call" && chosen !== undefined) world.begin(chosen, action.bound);
        else if (action.do === "answer" || action.do === "fail") {
          const call = world.take(action.at);
          if (call === undefined) continue;
          if (action.do === "fail") call.answer.reject(new TypeError("no"));
          else {
            const used = Math.min(action.uses, call.bound);
            call.answer.resolve({ text: "", finishReason: "stop", usage: { inputTokens: 0, outputTokens: used } });
            world.charge(call.pid, used);
          }
          await world.done.get(call.place);
        } else if (action.do === "kill" && chosen !== undefined) {
          await world.os.kill(chosen.pid, "KILL");
          world.lose(({ pid }) => world.kernel?.host.processes.get(toPid(pid))?.isAlive !== true);
        } else if (action.do === "add" && chosen !== undefined) {
          const isAdded = await Promise.resolve()
            .then(() => world.os.call("allocate", { pid: chosen.pid, budget: { ...action.budget } }))
            .then(
              () => true,
              () => false,
            );
          if (isAdded)
            for (const [name, amount] of Object.entries(action.budget))
              chosen.given[name] = (chosen.given[name] ?? 0) + amount;
        } else if (action.do === "crash") await world.crash();
        await settle();
        await world.check();
      }
      // Everything ends: what was given and not used has come back, at every root exactly.
      // Those too that are quarantined because the host died too often under them.
      for (const { pid } of world.processes) await world.os.kill(pid, "KILL").catch(() => undefined);
      world.lose(() => true);
      await settle();
      expect((await world.store.scan({ from: "A/", to: "A0" }, { limit: 1000 })).length).toBe(0);
      for (const known of world.processes) {
        const left = await world.store.get(`al/${known.pid}`);
        if (left === undefined) continue;
        const rest = JSON.parse(String(left.value)) as Partial<Record<Resource, number>>;
        for (const resource of RESOURCES) {
          const given = known.given[resource];
          if (given !== undefined)
            expect([known.pid, resource, rest[resource]]).toEqual([
              known.pid,
              resource,
              given - world.spentBelow(known, resource),
            ]);
        }
      }
      await world.kernel?.close();
    }),
    { numRuns: 250 },
  );
}, 120_000);
