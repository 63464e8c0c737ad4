// `ergos service`: services of a host and what is done with them.

import {
  ATTESTATIONS,
  type Attestation,
  KernelError,
  type ProgramSource,
  type ServiceStatus,
  attestedText,
} from "@ergos/kernel";
import { join } from "node:path";
import { openKeys } from "../boot.ts";
import {
  type Command,
  EXIT_FAILED,
  EXIT_OK,
  type Invocation,
  UsageError,
  listOption,
  openDirectory,
  readPairs,
  required,
  textOption,
} from "../command.ts";
import { findModule, loadService } from "../module-program.ts";
import { type Output, formatCount, table } from "../terminal.ts";
import { asJson } from "./trigger.ts";

const CONTROLS = { start: "startService", stop: "stopService", restart: "restartService" } as const;

export const serviceCommand: Command = {
  name: "service",
  arguments: 4,
  summary: "list services, or add, start, stop, check, swap, call or remove one",
  usage: `list | show <name> | add <module> [--export NAME] [--config key=value]... [--attest ${ATTESTATIONS.join("|")} --hash SHA256 [--signature=TEXT --key=ID]] | start <name> | stop <name> | restart <name> | check <name> | swap <name> <module> | call <name> <method> [json] | attest <module> | remove <name>`,
  examples: [
    "ergos service list",
    "ergos service add ./search.ts --config index=docs",
    'ergos service call search query \'{ "text": "kernel" }\'',
    "ergos service swap search ./search-v2.ts",
    "ergos service attest ./search.ts",
    "ergos up",
  ],
  options: {
    export: { type: "string" },
    config: { type: "string", multiple: true },
    attest: { type: "string" },
    hash: { type: "string" },
    signature: { type: "string" },
    key: { type: "string" },
  },
  run: async (invocation) => {
    const what = invocation.positionals[0] ?? "list";
    const { out } = invocation;
    switch (what) {
      case "list": {
        await using os = await openDirectory(invocation);
        out.answer(await os.call("services", {}), (services) => serviceTable(services, out));
        return EXIT_OK;
      }
      case "show": {
        const name = required(invocation, 1, "the service");
        await using os = await openDirectory(invocation);
        out.answer(await find(os.call("services", {}), name), (status) => JSON.stringify(status, undefined, 2));
        return EXIT_OK;
      }
      case "add":
        return add(invocation);
      case "attest":
        return attest(invocation);
      case "start":
      case "stop":
      case "restart":
      case "check":
      case "remove":
      case "swap":
      case "call":
        return control(invocation, what);
      default:
        throw new UsageError(
          `service takes list, show, add, start, stop, restart, check, swap, call, attest or remove; found ${what}`,
        );
    }
  },
};

function sourceOf(invocation: Invocation, place: number): ProgramSource {
  const named = textOption(invocation, "export");
  const module = findModule(required(invocation, place, "the module of the service"), process.cwd());
  return { module, cwd: process.cwd(), ...(named === undefined ? {} : { export: named }) };
}

function attestationOf(invocation: Invocation): { readonly attest?: Attestation } {
  const wanted = textOption(invocation, "attest");
  const level = ATTESTATIONS.find((one) => one === wanted);
  if (wanted === undefined) return {};
  if (level === undefined) throw new UsageError(`--attest takes ${ATTESTATIONS.join(", ")}; found ${wanted}`);
  const [hash, signature, keyId] = ["hash", "signature", "key"].map((name) => textOption(invocation, name));
  return {
    attest: {
      level,
      ...(hash === undefined ? {} : { hash }),
      ...(signature === undefined ? {} : { signature }),
      ...(keyId === undefined ? {} : { keyId }),
    },
  };
}

async function add(invocation: Invocation): Promise<number> {
  const pairs = listOption(invocation, "config");
  const request = {
    source: sourceOf(invocation, 1),
    ...attestationOf(invocation),
    ...(pairs.length === 0 ? {} : { config: readPairs("config", pairs) }),
  };
  await using os = await openDirectory(invocation);
  const status = await os.call("enlist", request);
  const { out } = invocation;
  out.answer(status, () => stateLine(status, out, os.isRemote));
  return status.state === "failed" ? EXIT_FAILED : EXIT_OK;
}

/** What `strict` wants of a module: its hash, signed with the key of this directory. */
async function attest(invocation: Invocation): Promise<number> {
  const { module, hash } = await loadService(sourceOf(invocation, 1));
  const keys = openKeys(join(invocation.dir, "keys"));
  const { keyId } = keys;
  const signature = keys.sign(attestedText(module.name, hash));
  invocation.out.answer({ name: module.name, hash, signature, keyId }, () =>
    // A signature may begin with a dash, which only this form takes.
    [`--attest strict --hash ${hash}`, `  --signature=${signature} --key=${keyId}`].join(" \\\n"),
  );
  return EXIT_OK;
}

async function control(
  invocation: Invocation,
  what: "start" | "stop" | "restart" | "check" | "remove" | "swap" | "call",
): Promise<number> {
  const { out } = invocation;
  const name = required(invocation, 1, "the service");
  const source = what === "swap" ? sourceOf(invocation, 2) : undefined;
  const method = what === "call" ? required(invocation, 2, "the method") : undefined;
  const [, , , given] = invocation.positionals;
  const args = given === undefined ? {} : asJson(given);
  await using os = await openDirectory(invocation);
  if (method !== undefined) {
    const answer = await os.call("callService", { service: name, method, args });
    out.answer(answer ?? null, () => JSON.stringify(answer ?? null, undefined, 2));
    return EXIT_OK;
  }
  if (what === "remove") {
    await os.call("delist", { name });
    out.answer({ name }, () => `service ${name} is gone`);
    return EXIT_OK;
  }
  if (what === "check") {
    const check = await os.call("checkService", { name });
    const word = check.ok ? (check.ready ? "well" : "not ready") : out.style("red", "failing");
    out.answer(
      check,
      () => `service ${name} is ${word} (${check.ms} ms)${check.note === undefined ? "" : `: ${check.note}`}`,
    );
    return check.ok ? EXIT_OK : EXIT_FAILED;
  }
  const status =
    source === undefined
      ? await os.call(CONTROLS[what === "start" || what === "stop" ? what : "restart"], { name })
      : await os.call("swapService", { name, source, ...attestationOf(invocation) });
  out.answer(status, () => stateLine(status, out, os.isRemote));
  return EXIT_OK;
}

async function find(services: unknown, name: string): Promise<ServiceStatus> {
  const found = ((await services) as readonly ServiceStatus[]).find((one) => one.name === name);
  if (found === undefined)
    throw new KernelError("ENOENT", `there is no service ${name}; \`ergos service list\` shows them`);
  return found;
}

const COLOURS = { ready: "green", failed: "red", waiting: "yellow", degraded: "yellow" } as const;
const stateText = ({ state }: ServiceStatus, out: Output): string =>
  state in COLOURS ? out.style(COLOURS[state as keyof typeof COLOURS], state) : state;
const stateLine = (status: ServiceStatus, out: Output, isUp: boolean): string =>
  status.state === "ready" && !isUp
    ? `service ${status.name} was ready, and ends with this command; a host that stays runs it: ergos up`
    : `service ${status.name} is ${stateText(status, out)}${status.why === undefined ? "" : `: ${status.why}`}`;

const serviceTable = (services: readonly ServiceStatus[], out: Output): string =>
  table([
    ["NAME", "STATE", "PID", "NEEDS", "CALLS", "RESTARTS", "WHY"],
    ...services.map((one) => [
      one.name,
      stateText(one, out),
      one.pid === undefined ? "" : String(one.pid),
      one.needs.join(","),
      formatCount(one.calls),
      formatCount(one.restarts),
      one.why ?? one.description ?? "",
    ]),
  ]);
