// Rights, budgets and audit: what a check, a reservation and a record cost, beside a Map and beside policy engines.

import { existsSync } from "node:fs";
import { join } from "node:path";
import { Capability, type Tool, type Os, parseGrant } from "@ergos/kernel";
import { type RunContext, program } from "ergos";
import { withHost } from "./host.ts";
import { type Bench, type Result, alternate, microsecondsPer, toResult } from "./measure.ts";

const peers = join(import.meta.dirname, "peers");
const hasPolicies = (): boolean => existsSync(join(peers, "node_modules/casbin"));
const grants = (count: number) => Array.from({ length: count }, (_, at) => parseGrant(`fs.read:/srv/${at}/**`));
const NANO = 1000;

const checks: Bench = {
  name: "rights: a check",
  run: async () => {
    const times = 100_000;
    const [ten, hundred, many] = [Capability.of(grants(10)), Capability.of(grants(100)), Capability.of(grants(10_000))];
    const map = new Map(Array.from({ length: 10 }, (_, at) => [`/srv/${at}/a`, true]));
    const path = "/srv/9/a";
    let yes = 0;
    const cached = (capability: Capability) => () =>
      microsecondsPer(times, () => {
        for (let at = 0; at < times; at++) if (capability.allows("fs.read", path)) yes++;
      });
    const fresh = (capability: Capability, of: number) => {
      // Each a path that was not asked for before.
      const paths = Array.from({ length: 4000 }, (_, at) => `/srv/${(at * 7) % of}/b/${at}`);
      return () => {
        const [layer] = capability.layers;
        // A change of rights empties what was decided.
        if (layer !== undefined) layer.clock.version++;
        return microsecondsPer(paths.length, () => {
          for (const one of paths) if (capability.allows("fs.read", one)) yes++;
        });
      };
    };
    const policies = hasPolicies()
      ? ((await import(join(peers, "policies.mjs"))) as {
          casbin: (policies: number) => Promise<() => unknown>;
          cedar: (policies: number) => Promise<() => unknown>;
        })
      : undefined;
    const [casbin, cedar] = [await policies?.casbin(10), await policies?.cedar(100)];
    const each = (count: number, check: (() => unknown) | undefined) => () =>
      microsecondsPer(count, () => {
        for (let at = 0; at < count; at++) check?.();
      });
    const samples = await alternate(15, {
      map: () =>
        microsecondsPer(times, () => {
          for (let at = 0; at < times; at++) if (map.get(path) === true) yes++;
        }),
      cached: cached(ten),
      ten: fresh(ten, 10),
      hundred: fresh(hundred, 100),
      many: fresh(many, 10_000),
      casbin: each(2000, casbin),
      cedar: each(200, cedar),
    });
    if (yes === 0) throw new TypeError("nothing was allowed");
    const scaled = (key: string): readonly number[] => (samples[key] ?? []).map((value) => value * NANO);
    const results: Result[] = [
      toResult("a check that was made before, over Map.get", "ns", scaled("cached"), {
        floor: scaled("map"),
        target: 2,
      }),
      toResult("a new check, 10,000 grants over 10", "ns", scaled("many"), { floor: scaled("ten"), target: 1.5 }),
    ];
    if (policies !== undefined) {
      results.push(
        toResult("a new check with 10 grants, beside casbin", "ns", scaled("ten"), {
          peer: { name: "casbin", samples: scaled("casbin") },
          target: 1 / 20,
        }),
        toResult("a new check with 100 grants, beside Cedar", "ns", scaled("hundred"), {
          peer: { name: "Cedar", samples: scaled("cedar") },
          target: 1 / 100,
        }),
      );
    }
    return results;
  },
};

const tool: Tool<Os> = { name: "nothing", description: "", inputSchema: {}, effect: "pure", call: () => 1 };

const reservations: Bench = {
  name: "budgets: a reservation",
  run: () =>
    withHost({ inMemory: true, tools: [tool] }, async ({ kernel }) => {
      const { accounts, committer, processes, owner } = kernel.host;
      // Five accounts deep.
      let parent = owner;
      for (let depth = 0; depth < 5; depth++) {
        const waiting = program("deep", () => new Promise(() => undefined));
        parent = await processes.spawn(parent, waiting, {
          budget: { tokensOut: 1_000_000 - depth, modelCalls: 1_000_000 - depth },
        });
      }
      const times = 5000;
      const samples = await alternate(15, {
        pair: () =>
          microsecondsPer(times, async () => {
            for (let at = 0; at < times; at++) {
              const { reservation, adds } = accounts.reserve(parent.account, { tokensOut: 10, modelCalls: 1 });
              void committer.commit({ adds });
              void committer.commit({ adds: accounts.settle(reservation, { tokensOut: 0, modelCalls: 0 }) });
              if (at % 100 === 99) await Promise.resolve();
            }
          }),
      });
      return [toResult("reserve and settle five accounts deep, in memory", "µs", samples["pair"] ?? [], { target: 2 })];
    }),
};

const steps: Bench = {
  name: "rights: a step with all of it",
  run: () =>
    withHost({}, async ({ kernel }) => {
      const each = 50;
      const work = program("work", async (_input: unknown, ctx: RunContext) => {
        for (let at = 0; at < each; at++) {
          await ctx.step(`s${at}`, () => ({ answer: at, text: "a result of some length, as steps have" }));
          await ctx.os.flush();
        }
      });
      const narrowed = { grants: ["self", "fs.read:/srv/**"], budget: { tokens: 1000 } };
      const run = (options: object) => () =>
        microsecondsPer(each, async () => kernel.os.wait(await kernel.os.spawn(work, options)));
      for (let round = 0; round < 40; round++) await run({})();
      const samples = await alternate(30, { bare: run({}), governed: run(narrowed) });
      return [
        toResult("a flushed step with rights and a budget, over one without", "µs", samples["governed"] ?? [], {
          floor: samples["bare"] ?? [],
          target: 1.15,
        }),
      ];
    }),
};

const audit: Bench = {
  name: "audit: a record",
  run: () =>
    withHost({}, async ({ kernel }) => {
      const times = 2000;
      const { committer, audit: trail } = kernel.host;
      const act = { pid: 7, user: "bench", call: "stepEnd", on: "node" };
      let at = 0;
      const commit = (isAudited: boolean) => () =>
        microsecondsPer(times, async () => {
          const all: Promise<unknown>[] = [];
          for (let round = 0; round < times; round++) {
            const batch = { appends: [{ log: "j/bench", value: `{"t":"step","p":"s${at++}","value":{"answer":1}}` }] };
            all.push(isAudited ? committer.commit(batch, [], trail.draft(act)) : committer.commit(batch));
          }
          await Promise.all(all);
        });
      const samples = await alternate(25, { plain: commit(false), audited: commit(true) });
      const extra = (samples["audited"] ?? []).map((value, round) => value - (samples["plain"]?.[round] ?? 0));
      return [toResult("an audit record in a group of commits", "µs", extra, { target: 1.5 })];
    }),
};

export const rightBenches: readonly Bench[] = [checks, reservations, steps, audit];
