// Programs in modules and manifests: `ergos run <module>` and what brings such a process back after a restart.

import { existsSync, readFileSync, statSync } from "node:fs";
import { basename, dirname, extname, join, resolve } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { PlanDocument } from "@ergos/compiler";
import {
  KernelError,
  type Os,
  type Program,
  type ProgramSource,
  type ServiceLoader,
  type ServiceModule,
  type Tool,
  assertTool,
  describe,
  isKernelError,
  toErrorRecord,
} from "@ergos/kernel";
import { toPlan, toProgram } from "@ergos/services";
import type { MountSpec } from "./boot.ts";
import { contentOf, importFresh } from "./import-fresh.ts";

/** What a program module may export beside its program (the default export). */
interface ProgramModule {
  readonly default?: unknown;
  /** Folders that the program reads, given its input. Paths are relative to the module. */
  readonly mounts?:
    | readonly MountSpec[]
    | ((input: unknown, where: { readonly cwd: string; readonly moduleDir: string }) => readonly MountSpec[]);
  /** Tools that the program, and a model that it asks, may call beside those of the host. */
  readonly tools?: readonly Tool<Os>[];
  /** Lines to print when a run of it has ended. */
  readonly epilogue?: (result: unknown) => string;
}

/** The module file that a path names: itself, or the `main` of a package directory. */
export function findModule(path: string, cwd: string): string {
  const full = resolve(cwd, path);
  if (!existsSync(full))
    throw new KernelError(
      "ENOENT",
      `${path} does not exist; give a manifest (.yaml), a module (.ts, .js) or a directory with one`,
      { path },
    );
  if (!statSync(full).isDirectory()) return full;
  const manifest = join(full, "package.json");
  const main = existsSync(manifest) ? mainOf(manifest) : undefined;
  const stem = basename(full);
  for (const name of [main, "pipeline.yaml", `${stem}.yaml`, "index.ts", "index.js", `${stem}.ts`]) {
    if (name === undefined) continue;
    const candidate = join(full, name);
    if (existsSync(candidate)) return candidate;
  }
  const why =
    main === undefined
      ? "no pipeline.yaml, no package.json, no index.ts"
      : `its package.json names ${main}, which is not there`;
  throw new KernelError("ENOENT", `${path} has no program: ${why}`, { path });
}

function mainOf(manifest: string): string | undefined {
  const { main } = JSON.parse(readFileSync(manifest, "utf8")) as { main?: unknown };
  return typeof main === "string" ? main : undefined;
}

async function importModule(file: string): Promise<ProgramModule> {
  const stop = new AbortController();
  const late = delay(loadMs(), undefined, { signal: stop.signal }).then(() => {
    throw new KernelError(
      "ETIMEDOUT",
      `${file} has not finished loading within ${loadMs() / 1000} s: something that it awaits at its top level does not settle; await it in its program, or give it more time by ERGOS_LOAD_MS`,
      { path: file },
    );
  });
  // It may lose the race.
  late.catch(() => undefined);
  try {
    return (await Promise.race([importFresh(file), late])) as ProgramModule;
  } catch (error) {
    if (isKernelError(error)) throw error;
    // Node says before the stack where it could not read a module.
    const stack = error instanceof SyntaxError ? (error.stack ?? "") : "";
    const [, at] = /^(?:file:\/\/)?(\/[^\n?]+(?:\?[^\n:]*)?:\d+)\n/.exec(stack) ?? [];
    const thrownAt = at?.replace(/\?v=\w+/, "") ?? toErrorRecord(error).at;
    const where = thrownAt === undefined ? "" : ` (${thrownAt})`;
    // What npm makes says that modules are of the older kind.
    const isOther = /\b(?:import|export)\b/.test(describe(error)) && error instanceof SyntaxError;
    const advice = isOther
      ? '; if it uses import or export, write "type": "module" into the package.json beside it, or name it .mts or .mjs'
      : "";
    throw new KernelError("ENOEXEC", `${file} cannot be loaded: ${describe(error)}${where}${advice}`, {
      path: file,
      cause: error,
    });
  } finally {
    stop.abort();
  }
}

/** How long the top level of a module may take. */
const LOAD_MS = 60_000;
const loadMs = (): number => Number(process.env["ERGOS_LOAD_MS"] ?? "") || LOAD_MS;

export const isManifestFile = (file: string): boolean => [".yaml", ".yml"].includes(extname(file));

/** A program, and what the command line does around its runs. */
export interface LoadedProgram {
  readonly program: Program;
  /** Folders that it reads, given its input. */
  mounts(input: unknown): readonly MountSpec[];
  /** Lines to print when a run of it has ended. */
  epilogue(result: unknown, input: unknown): string | undefined;
}

/** The program that a source names: a module's export, or a pipeline of a manifest. */
export function loadProgram(
  source: ProgramSource,
  environment: Readonly<Record<string, string | undefined>> = process.env,
): Promise<LoadedProgram> {
  return isManifestFile(source.module ?? "") ? loadManifest(source, environment) : loadModule(source);
}

async function loadManifest(
  source: ProgramSource,
  environment: Readonly<Record<string, string | undefined>>,
): Promise<LoadedProgram> {
  // The compiler is loaded with the first manifest: programs in code start without it.
  const [{ pipelineOf }, { bindManifest }] = await Promise.all([
    import("./manifest-file.ts"),
    import("@ergos/services/manifest"),
  ]);
  const { document, source: found } = pipelineOf(source);
  const cwd = source.cwd ?? process.cwd();
  const { program, mounts, epilogue } = await bindManifest(document, {
    importModule: (file) => importModule(file) as Promise<Readonly<Record<string, unknown>>>,
    contentOf,
    environment,
    cwd,
    source: found,
  });
  return {
    program,
    mounts: (input) =>
      mounts(input).map(({ at, path, isGiven, writable }) => ({
        at,
        path: resolve(isGiven ? cwd : document.here, path),
        writable,
      })),
    epilogue,
  };
}

/**
 * The plan of a pipeline in a module. Functions that the module does not export have no name to be called by.
 * @throws {ENOEXEC} the module exports no pipeline
 */
export async function describeModule(source: ProgramSource): Promise<PlanDocument> {
  const file = source.module ?? "";
  const loaded = (await importModule(file)) as Readonly<Record<string, unknown>>;
  const name = source.export ?? "default";
  if (loaded[name] === undefined) throw exportsNone(file, name, loaded);
  const plan = toPlan(loaded[name]);
  if (plan === undefined)
    throw new KernelError("ENOEXEC", `${file} exports a program, not a pipeline; only a pipeline has a plan to show`, {
      path: file,
    });
  const { describePlan } = await import("@ergos/services/manifest");
  return describePlan(plan, file, loaded);
}

/**
 * The service of a module: its default export, or the one that is named.
 * @throws {ENOEXEC} it cannot be loaded, or exports none
 */
export const loadService: ServiceLoader = async (source) => {
  const file = findModule(source.module ?? "", source.cwd ?? process.cwd());
  const loaded = (await importModule(file)) as Readonly<Record<string, unknown>>;
  const found = loaded[source.export ?? "default"];
  if (typeof found !== "object" || found === null || !("create" in found))
    throw new KernelError(
      "ENOEXEC",
      `${file} exports no service as ${source.export ?? "default"}: { name, contract, create }`,
      {
        path: file,
      },
    );
  // The kernel checks its form.
  return { module: found as ServiceModule, hash: contentOf(file) };
};

/** What a program of a module is called: by its export, or else by the file; `index` and `main` say nothing, their folder does. */
export function labelOf(file: string, name = "default"): string {
  if (name !== "default") return name;
  const stem = basename(file, extname(file));
  return /^(index|main)$/.test(stem) ? basename(dirname(file)) : stem;
}

async function loadModule(source: ProgramSource): Promise<LoadedProgram> {
  const file = source.module ?? "";
  const loaded = await importModule(file);
  const name = source.export ?? "default";
  const value = (loaded as Readonly<Record<string, unknown>>)[name];
  if (value === undefined || isEmpty(value)) throw exportsNone(file, name, loaded);
  const program = toProgram(value, labelOf(file, name), {
    module: file,
    ...(source.export === undefined ? {} : { export: source.export }),
    ...(source.cwd === undefined ? {} : { cwd: source.cwd }),
  });
  const tools = toolsOf(loaded, file);
  return {
    program: tools.length === 0 ? program : { ...program, tools: [...(program.tools ?? []), ...tools] },
    mounts: (input) => mountsOf(loaded, input, file, source.cwd ?? process.cwd()),
    epilogue: (result) => loaded.epilogue?.(result),
  };
}

/** What a file without exports is to Node, where its package says nothing of modules. */
const isEmpty = (value: unknown): boolean =>
  typeof value === "object" &&
  value !== null &&
  Object.getPrototypeOf(value) === Object.prototype &&
  Object.keys(value).length === 0;

function exportsNone(file: string, name: string, loaded: ProgramModule): KernelError {
  const others = Object.entries(loaded).flatMap(([other, value]) => (isEmpty(value) ? [] : [other]));
  const found = others.length === 0 ? "nothing" : others.join(", ");
  const wanted = name === "default" ? "its program by default" : name;
  const choice = others.length === 0 ? "Write" : "Name one of them (--pipeline NAME), or write";
  return new KernelError(
    "ENOEXEC",
    `${file} does not export ${wanted}; it exports ${found}. ${choice}: export default a pipeline, a program or a function (input, ctx)`,
    { path: file },
  );
}

/** @throws {ENOEXEC} what the module exports as its tools is something else · {EINVAL} a schema of theirs cannot be checked */
function toolsOf({ tools = [] }: ProgramModule, file: string): readonly Tool<Os>[] {
  const isTool = (one: unknown): boolean =>
    typeof one === "object" && one !== null && "name" in one && "call" in one && typeof one.call === "function";
  if (!Array.isArray(tools) || !tools.every(isTool))
    throw new KernelError("ENOEXEC", `the export tools of ${file} is no list of { name, inputSchema, effect, call }`, {
      path: file,
    });
  for (const tool of tools) assertTool(tool, ` of ${file}`);
  return tools;
}

const isMounts = (value: unknown): value is readonly MountSpec[] =>
  Array.isArray(value) &&
  value.every(
    (one: unknown) =>
      typeof one === "object" &&
      one !== null &&
      "at" in one &&
      typeof one.at === "string" &&
      "path" in one &&
      typeof one.path === "string",
  );

function mountsOf(module: ProgramModule, input: unknown, file: string, cwd: string): readonly MountSpec[] {
  const { mounts } = module;
  const moduleDir = dirname(file);
  let list: unknown;
  try {
    list = typeof mounts === "function" ? mounts(input, { cwd, moduleDir }) : (mounts ?? []);
  } catch (cause) {
    throw new KernelError("ENOEXEC", `the mounts of ${file} cannot be told: ${describe(cause)}`, { path: file, cause });
  }
  if (!isMounts(list))
    throw new KernelError("ENOEXEC", `the mounts of ${file} must be a list of { at, path }, both texts`, {
      path: file,
    });
  return list.map((mount) => ({ ...mount, path: resolve(moduleDir, mount.path) }));
}
