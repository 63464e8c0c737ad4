// The run that is crashed: thirty nodes with pure steps, paid model calls, a map, retries, files and sleep.
// `World` counts what was really done, so that a repetition shows.

import { type RunContext, createOfflineModel, pipeline, planProgram } from "ergos";
import type { Model, Program } from "@ergos/kernel";

/** What the outside world saw, by place: it does not forget when the host dies. */
export class World {
  readonly done = new Map<string, number>();
  readonly calls = new Map<string, number>();

  did(place: string): void {
    this.done.set(place, (this.done.get(place) ?? 0) + 1);
  }
}

/** A paid model whose calls the world counts by their idempotency key. */
export function paidModel(world: World): Model {
  const inner = createOfflineModel({
    name: "paid",
    effect: "idempotent",
    price: { input: 1, output: 2 },
    script: (request) => `answer to ${request.messages.at(-1)?.content ?? ""}`,
  });
  return {
    ...inner,
    infer: (request, options) => {
      // `<directory>/<run>/<place>#<request>`: what stands between is what a journal names.
      const call = options.idempotencyKey.replace(/^[^/]+\//, "").replace(/#[0-9a-f]+$/, "");
      world.calls.set(call, (world.calls.get(call) ?? 0) + 1);
      return inner.infer(request, options);
    },
  };
}

export function thirtyNodes(world: World): Program {
  let plan = pipeline<{ start: number }>("thirty")
    .node("first", ({ start }) => {
      world.did("first");
      return start;
    })
    .node("items", { needs: ["first"] }, ({ first }) => {
      world.did("items");
      return Array.from({ length: 5 }, (_, at) => first + at);
    })
    .map("squares", { over: "items", concurrency: 3 }, async (item, ctx) => {
      const square = await ctx.step("square", () => {
        world.did(`squares[${item}]/square`);
        return item * item;
      });
      const answer = await ctx.infer("ask", `square of ${item}`);
      world.did(`squares[${item}]`);
      return { square, text: answer.text };
    })
    .node("fails-once", { needs: ["first"], retry: { attempts: 3, delayMs: 1 } }, ({ first }, ctx) => {
      if (ctx.attempt === 1) throw new TypeError("not yet");
      world.did("fails-once");
      return first + 100;
    })
    .node("skipped", { needs: ["first"], when: ({ first }) => first > 1000 }, () => {
      world.did("skipped");
      return 1;
    })
    .node("writes", { needs: ["first"] }, async ({ first }, ctx) => {
      await ctx.os.fs.writeFile("/home/thirty/result.txt", `value ${first}`);
      world.did("writes");
      return (await ctx.os.fs.readText("/home/thirty/result.txt")).length;
    }) as unknown as Chain;
  // A layered tail of plain nodes makes up the thirty.
  for (let at = 0; at < 24; at++) {
    const needs = at === 0 ? ["squares", "fails-once", "writes"] : [`n${at - 1}`, ...(at > 2 ? [`n${at - 3}`] : [])];
    plan = plan.node(`n${at}`, { needs }, async (input: Readonly<Record<string, unknown>>, ctx: RunContext) => {
      world.did(`n${at}`);
      if (at % 6 === 0) await ctx.infer("ask", `node ${at}`);
      return { at, sum: JSON.stringify(input).length };
    });
  }
  return planProgram(plan.output("n23").build());
}

/** The builder with names made at run time, whose types nobody can know. */
interface Chain {
  node(
    name: string,
    options: { readonly needs: readonly string[] },
    run: (input: Readonly<Record<string, unknown>>, ctx: RunContext) => unknown,
  ): Chain;
  output(name: string): Chain;
  build(): Parameters<typeof planProgram>[0];
}
