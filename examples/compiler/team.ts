// A team of fourteen processes compiles a program. The owner of the data starts the queen, and below her
//
//   queen ─ lead agent ─┬─ architect, who designs, sleeps, and is woken for the review
//                       ├─ frontend ── lexer, parser
//                       ├─ middle ──── checker, folder
//                       └─ backend ─── emitter, and a task for each test
//
// Each is a process of the machine with the rights of its role; what it spends is the queen's. A host that is
// killed in the middle goes on with all of them, and a worker that dies is restarted by its lead.

import type { RunContext } from "ergos";
import { type Instruction, type Statement, type Token, check, emit, execute, fold, lex, parse } from "./language.ts";

type Program = { readonly source?: string; readonly prints?: readonly number[] };

const DEMO: Required<Program> = {
  source: "let width = 6\nlet height = 2 + 3 * 4\nprint width * height\nprint (width + height) / 2 - 1",
  prints: [84, 9],
};

/** The tokens that the whole team may use. */
const BUDGET = { tokens: 500_000 };
const ASLEEP_MS = 20;

/** Starts the lead agent, hands it the program, and tells how it went. */
export default async function queen(input: Program | undefined, ctx: RunContext) {
  const program = input?.source === undefined ? DEMO : input;
  const lead = await ctx.spawn("lead-agent", { export: "leadAgent" }, { role: "agent", budget: BUDGET });
  try {
    return await ctx.executeOn("compile", lead, program);
  } finally {
    // Whoever is left over would be adopted, and go on.
    await ctx.collapse("the team");
  }
}

/** Has the architect design it, the leads build it, and the architect look at what came of it. */
export const leadAgent = (_input: unknown, ctx: RunContext) =>
  ctx.serve(async (task, step) => {
    const { source = "", prints } = task as Program;
    const architect = await step.spawn("architect", { export: "architect" }, { role: "architect" });
    await step.executeOn("design", architect, { source });
    const lead = async (name: string) => step.spawn(name, { export: name }, { role: "lead", strategy: "one-for-one" });
    const leads = { frontend: await lead("frontend"), middle: await lead("middle"), backend: await lead("backend") };
    const parsed = await step.executeOn("read", leads.frontend, { source });
    const checked = await step.executeOn("improve", leads.middle, parsed);
    const built = (await step.executeOn("write", leads.backend, { program: checked, prints })) as object;
    const team = await step.step("census", async () => {
      const all = await step.os.ps({ all: true });
      return all.map(({ name, role, sleep }) => `${name} (${role})${sleep === undefined ? "" : ", asleep"}`);
    });
    const review = await step.executeOn("review", architect, built);
    return { ...built, review, team };
  });

/** Designs, then sleeps out of memory until it is asked to review. */
export async function architect(_input: unknown, ctx: RunContext) {
  const design = (task: unknown, step: RunContext) => ask(step, `Design a compiler for: ${JSON.stringify(task)}`);
  await ctx.serve(design, { idleMs: ASLEEP_MS });
  await ctx.hibernate("until the review");
  await ctx.serve(() => ({ accepted: true }), { name: "review" });
}

/** A lead has its workers do their parts, one after the other. */
export const frontend = (_input: unknown, ctx: RunContext) =>
  ctx.serve(async (task, step) => {
    const [lexer, parser] = [await worker(step, "lexer"), await worker(step, "parser")];
    const tokens = await step.executeOn("lex", lexer, (task as Program).source);
    return step.executeOn("parse", parser, tokens);
  });

export const middle = (_input: unknown, ctx: RunContext) =>
  ctx.serve(async (task, step) => {
    const [checker, folder] = [await worker(step, "checker"), await worker(step, "folder")];
    const faults = (await step.executeOn("check", checker, task)) as readonly string[];
    if (faults.length > 0) throw new SyntaxError(faults.join("; "));
    return step.executeOn("fold", folder, task);
  });

export const backend = (_input: unknown, ctx: RunContext) =>
  ctx.serve(async (task, step) => {
    const { program, prints } = task as { readonly program: unknown; readonly prints?: readonly number[] };
    const code = await step.executeOn("emit", await worker(step, "emitter"), program);
    const tests = { runs: { code }, prints: { code, prints } };
    const pids = await Promise.all(
      Object.entries(tests).map(([name, input]) =>
        step.spawn(`test-${name}`, { export: "test" }, { role: "task", input }),
      ),
    );
    const [printed] = await Promise.all(pids.map((pid) => step.wait(`outcome of ${pid}`, pid)));
    return { instructions: (code as readonly Instruction[]).length, printed };
  });

const worker = (step: RunContext, name: string) =>
  step.spawn(name, { export: name }, { role: "worker", restart: "on-failure" });

export const lexer = (_input: unknown, ctx: RunContext) => does(ctx, (source) => lex(source as string));
export const parser = (_input: unknown, ctx: RunContext) => does(ctx, (tokens) => parse(tokens as readonly Token[]));
export const checker = (_input: unknown, ctx: RunContext) => does(ctx, (tree) => check(tree as readonly Statement[]));
export const folder = (_input: unknown, ctx: RunContext) => does(ctx, (tree) => fold(tree as readonly Statement[]));
export const emitter = (_input: unknown, ctx: RunContext) => does(ctx, (tree) => emit(tree as readonly Statement[]));

/** A worker says what it will do, as a model puts it, and does it. */
const does = (ctx: RunContext, work: (task: unknown) => unknown) =>
  ctx.serve(async (task, step) => {
    await ask(step, `Explain in a sentence what this is: ${JSON.stringify(task).slice(0, 500)}`);
    return work(task);
  });

/** A task runs the code, and compares what it prints. */
export async function test(input: { readonly code: readonly Instruction[]; readonly prints?: readonly number[] }) {
  const printed = execute(input.code);
  const isAsWanted = input.prints === undefined || JSON.stringify(printed) === JSON.stringify(input.prints);
  if (!isAsWanted) throw new RangeError(`it prints ${printed.join(", ")}, not ${input.prints?.join(", ") ?? ""}`);
  return printed;
}

async function ask(ctx: RunContext, content: string): Promise<string> {
  const { text } = await ctx.infer("ask", { messages: [{ role: "user", content }], maxOutputTokens: 64 });
  return text;
}
