// `ergos clone`, `upgrade`, `merge`, `split`: what becomes of a process beside its start and its end.

import { type MessageKind, type Os, type ProgramSource, present } from "@ergos/kernel";
import {
  type Command,
  EXIT_OK,
  UsageError,
  listOption,
  openDirectory,
  required,
  textOption,
  waitForOthers,
} from "../command.ts";
import { findPid } from "../find-process.ts";
import { findModule } from "../module-program.ts";
import { readAmounts } from "./budget.ts";
import { follow, holdInterrupts, openHost } from "./run.ts";
import { REDO_OPTIONS, redoingOf } from "./run-options.ts";

export const cloneCommand: Command = {
  name: "clone",
  needsData: true,
  arguments: 1,
  summary: "start a twin of a process, which goes on from what that has recorded so far; also of one that has ended",
  usage: "<pid|run> [--from step]... [--set step=value]... [--name NAME] [--ref REF] [--limit resource=amount]...",
  examples: [
    "ergos clone 7",
    "ergos clone order-7 --name what-if",
    "ergos clone 7 --from summarise",
    "ergos clone 7 --set classify=invoice --limit cost=0.50",
  ],
  options: {
    ...REDO_OPTIONS,
    name: { type: "string" },
    ref: { type: "string" },
    limit: { type: "string", multiple: true },
  },
  run: async (invocation) => {
    const wanted = required(invocation, 0, "the process");
    const more = present({
      ...redoingOf(invocation),
      name: textOption(invocation, "name"),
      ref: textOption(invocation, "ref"),
      budget: readAmounts(listOption(invocation, "limit")),
    });
    await using os = await openHost(invocation);
    const { pid, runId } = await findPid(os, wanted);
    const interrupted = holdInterrupts();
    const twin = await os.call("clone", { pid, ...more });
    const told = `${twin} goes on from what ${runId} has recorded`;
    if (os.isRemote) {
      interrupted();
      invocation.out.answer({ pid: twin, of: pid }, () => told);
      return EXIT_OK;
    }
    invocation.out.line(told);
    const status = await follow(os, twin, invocation.out, { interrupted });
    await waitForOthers(os, invocation.out);
    return status;
  },
};

export const upgradeCommand: Command = {
  name: "upgrade",
  needsData: true,
  arguments: 2,
  summary: "give a process another program, or its own as it is now, once no call of it is under way",
  usage: "<pid|run> [module] [--export NAME]",
  examples: ["ergos upgrade 7", "ergos upgrade 7 ./worker-v2.ts"],
  options: { export: { type: "string" } },
  run: async (invocation) => {
    const wanted = required(invocation, 0, "the process");
    const [, name] = invocation.positionals;
    const named = textOption(invocation, "export");
    await using os = await openDirectory(invocation);
    const { pid, runId } = await findPid(os, wanted);
    const now = await sourceOf(os, pid);
    const module = name === undefined ? undefined : findModule(name, process.cwd());
    // Where it runs, and how much of the machine it sees, stays as it is.
    const runtime = {
      ...(now.runtime === undefined ? {} : { runtime: now.runtime }),
      ...(now.confined === undefined ? {} : { confined: now.confined }),
    };
    const exported = named === undefined ? {} : { export: named };
    const program = module === undefined ? now : { module, ...runtime, ...exported, cwd: process.cwd() };
    await os.call("upgrade", { pid, program });
    invocation.out.answer({ pid, program }, () => `${runId} goes on with ${module ?? "its program as it is now"}`);
    return EXIT_OK;
  },
};

async function sourceOf(os: Os, pid: number): Promise<ProgramSource> {
  // As the kernel writes it.
  const { program } = JSON.parse(await os.fs.readText(`/proc/${pid}/cmdline.json`)) as {
    readonly program: { readonly name: string; readonly source?: ProgramSource };
  };
  return program.source ?? { name: program.name };
}

export const mergeCommand: Command = {
  name: "merge",
  needsData: true,
  arguments: 2,
  summary: "end a process and leave another its messages and the rest of its budget",
  usage: "<pid|run> <into pid|run>",
  examples: ["ergos merge 8 7"],
  options: {},
  run: async (invocation) => {
    const [from, into] = [required(invocation, 0, "the process that ends"), required(invocation, 1, "the other")];
    await using os = await openDirectory(invocation);
    const [one, other] = [await findPid(os, from), await findPid(os, into)];
    await os.call("merge", { pid: one.pid, into: other.pid });
    invocation.out.answer({ pid: one.pid, into: other.pid }, () => `${one.runId} has gone into ${other.runId}`);
    return EXIT_OK;
  },
};

export const splitCommand: Command = {
  name: "split",
  needsData: true,
  arguments: 1,
  summary: "start parts of a process below it: its program, each with an input and a share of its budget",
  usage: "<pid|run> --input JSON [--input JSON]... [--mail KIND]",
  examples: [`ergos split 7 --input '{"from":1,"to":500}' --input '{"from":501,"to":1000}'`],
  options: { input: { type: "string", multiple: true }, mail: { type: "string" } },
  run: async (invocation) => {
    const wanted = required(invocation, 0, "the process");
    const inputs = listOption(invocation, "input").map(readInput);
    if (inputs.length === 0) throw new UsageError("split takes an --input for each part");
    const mail = textOption(invocation, "mail");
    await using os = await openDirectory(invocation);
    const { pid, runId } = await findPid(os, wanted);
    // The call says which kinds there are.
    const kind = mail === undefined ? {} : { mail: { kind: mail as MessageKind } };
    const parts = await os.call("split", { pid, parts: inputs.map((input) => ({ input, ...kind })) });
    invocation.out.answer({ of: pid, parts }, () => `${runId} has the parts ${parts.join(", ")}`);
    return EXIT_OK;
  },
};

function readInput(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new UsageError(`--input takes JSON, found ${text}`);
  }
}
