// `ergos doctor`: what is here, what works, and what this host really enforces.

import { accessSync, constants, existsSync, statSync } from "node:fs";
import { delimiter, dirname, join, resolve } from "node:path";
import { KERNEL_VERSION, type Os, describe } from "@ergos/kernel";
import { childConfinement, networkFilesystemOf, readOwner } from "../boot.ts";
import { type Command, EXIT_FAILED, EXIT_OK, type Invocation } from "../command.ts";
import { connect } from "../connect.ts";
import { type Output, table } from "../terminal.ts";

interface Finding {
  readonly name: string;
  readonly ok: boolean;
  readonly detail: string;
}

export const doctorCommand: Command = {
  name: "doctor",
  arguments: 0,
  summary: "tell what is installed, which models answer, and what this host enforces",
  usage: "",
  examples: ["ergos doctor", "ergos doctor --json"],
  run: async (invocation) => {
    const findings = [
      ...checkRuntime(),
      ...(await checkDirectory(invocation)),
      ...checkPrograms(),
      ...(await enforcement()),
    ];
    invocation.out.answer(findings, (list) => doctorText(list, invocation.out));
    return findings.every((finding) => finding.ok) ? EXIT_OK : EXIT_FAILED;
  },
};

function checkRuntime(): Finding[] {
  const major = Number(process.versions.node.split(".")[0]);
  return [
    { name: "ergos", ok: true, detail: KERNEL_VERSION },
    {
      name: "node",
      ok: major >= 24,
      detail: `${process.versions.node}${major >= 24 ? "" : ", 24 or later is needed"}`,
    },
    { name: "sqlite", ok: true, detail: process.versions["sqlite"] ?? "built in" },
  ];
}

async function checkDirectory({ dir }: Invocation): Promise<Finding[]> {
  const path = resolve(dir);
  const exists = existsSync(path);
  const parent = exists ? path : nearestDirectory(path);
  const network = networkFilesystemOf(parent);
  const findings: Finding[] = [
    {
      name: "data directory",
      ok: isWritable(parent),
      detail: `${path}${exists ? "" : " (not made yet)"}${isWritable(parent) ? "" : ", cannot be written"}`,
    },
    {
      name: "filesystem",
      ok: network === undefined,
      detail: network === undefined ? "local" : `${network}: locks and syncs cannot be trusted, use a local disk`,
    },
  ];
  if (!exists) return [...findings, ...(await checkModels(undefined))];
  try {
    await using os = await connect({ dir: path, idle: true, serve: false });
    const store = JSON.parse(await os.fs.readText("/sys/store.json")) as { seq: number; durability: string };
    findings.push(
      {
        name: "owner",
        ok: true,
        detail: os.isRemote
          ? `process ${readOwner(path)?.pid ?? "?"}, reached over its control socket`
          : "nobody, opened here",
      },
      {
        name: "store",
        ok: true,
        detail: `position ${store.seq}, survives ${store.durability === "power" ? "kill -9 and, once flushed, a loss of power" : store.durability}`,
      },
    );
    return [...findings, ...(await checkModels(os))];
  } catch (error) {
    return [...findings, { name: "store", ok: false, detail: describe(error) }];
  }
}

/** Models by name, those of providers as `provider/model`. */
async function modelNames(os: Os, prefix: string): Promise<readonly string[]> {
  const names: string[] = [];
  for (const { name, type } of await os.fs.readdir(`/dev/model/${prefix}`)) {
    if (type === "directory") names.push(...(await modelNames(os, `${prefix}${name}/`)));
    else names.push(`${prefix}${name}`);
  }
  return names;
}

async function checkModels(os: Os | undefined): Promise<Finding[]> {
  if (os === undefined) {
    await using fresh = await connect();
    return await checkModels(fresh);
  }
  const findings: Finding[] = [];
  for (const name of await modelNames(os, "")) {
    const model = JSON.parse(await os.fs.readText(`/dev/model/${name}.json`)) as {
      description: string;
      health: { ok: boolean; detail: string };
    };
    findings.push({
      name: `model ${name}`,
      ok: model.health.ok,
      detail: `${model.description}: ${model.health.detail}`,
    });
  }
  return findings;
}

function checkPrograms(): Finding[] {
  return ["git"].map((name) => {
    const path = (process.env["PATH"] ?? "")
      .split(delimiter)
      .map((folder) => join(folder, name))
      .find((file) => existsSync(file));
    return { name: `program ${name}`, ok: true, detail: path ?? "not installed (not needed today)" };
  });
}

/** What holds for the code that runs here, resource by resource. */
async function enforcement(): Promise<Finding[]> {
  const { diesWithHost, boundsTime, canConfine } = await childConfinement();
  const end = diesWithHost
    ? "ended with their host"
    : "ended with their host by their socket alone, as setpriv is missing";
  const rows: readonly (readonly [string, string])[] = [
    ["rights", "enforced on every system call; code of an inline program is trusted and can also call Node directly"],
    ["tokens, cost, model calls", "enforced before each call, where a budget is given"],
    ["wall time", "enforced per node (timeoutMs)"],
    [
      "CPU time",
      "measured only: a blocked event loop ends the host (watchdog, under `ergos run`), the run goes on at the next start",
    ],
    ["inline programs", "memory and network are not confined: they are code of this process"],
    [
      "worker threads",
      "their heap (memoryMb, 512 unless given), their processor time (cpuMs), and an end to what blocks; no wall: they are code of this process too",
    ],
    [
      "child processes",
      `their heap (memoryMb), ${boundsTime ? "their processor time (cpuMs), " : ""}an end to what blocks, and they are ${end}; files and network are not confined`,
    ],
    [
      "confined child processes",
      canConfine
        ? "no network but a proxy that asks their rights and charges bytes; of the machine only what they run on, read-only (bubblewrap)"
        : "none: bubblewrap is not installed, or this machine does not let it work; `--confined` is refused",
    ],
  ];
  return rows.map(([name, detail]) => ({ name: `enforces ${name}`, ok: true, detail }));
}

function doctorText(findings: readonly Finding[], out: Output): string {
  return table(
    findings.map(({ name, ok, detail }) => [ok ? out.style("green", "ok") : out.style("red", "!!"), name, detail]),
  );
}

function isWritable(path: string): boolean {
  try {
    accessSync(path, constants.W_OK);
    return statSync(path).isDirectory();
  } catch {
    return false;
  }
}

function nearestDirectory(path: string): string {
  let at = path;
  while (!existsSync(at) && dirname(at) !== at) at = dirname(at);
  return at;
}
