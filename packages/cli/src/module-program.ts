// Programs in modules: `ergos run <module>` and what brings such a process back after a restart.

import { existsSync, readFileSync, statSync } from "node:fs";
import { basename, dirname, extname, join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { KernelError, type Program, type ProgramSource, describe } from "@ergos/kernel";
import { toProgram } from "@ergos/services";
import type { MountSpec } from "./boot.ts";

/** What a program module may export beside its program (the default export). */
export interface ProgramModule {
  readonly default?: unknown;
  /** Folders that the program reads, given its input. Paths are relative to the module. */
  readonly mounts?:
    | readonly MountSpec[]
    | ((input: unknown, where: { readonly cwd: string; readonly moduleDir: string }) => readonly MountSpec[]);
  /** Lines to print when a run of it has ended. */
  readonly epilogue?: (result: unknown) => string;
}

/** The module file that a path names: itself, or the `main` of a package directory. */
export function findModule(path: string, cwd: string): string {
  const full = resolve(cwd, path);
  if (!existsSync(full))
    throw new KernelError(
      "ENOENT",
      `${path} does not exist; give a module (.ts, .js) or a directory with a package.json`,
      { path },
    );
  if (!statSync(full).isDirectory()) return full;
  const manifest = join(full, "package.json");
  const main = existsSync(manifest) ? mainOf(manifest) : "index.js";
  for (const name of [main, "index.ts", "index.js", `${basename(full)}.ts`]) {
    const candidate = join(full, name);
    if (existsSync(candidate)) return candidate;
  }
  throw new KernelError("ENOENT", `${path} has no module: its package.json names ${main}, which is not there`, {
    path,
  });
}

function mainOf(manifest: string): string {
  const { main } = JSON.parse(readFileSync(manifest, "utf8")) as { main?: unknown };
  return typeof main === "string" ? main : "index.js";
}

export async function importModule(file: string): Promise<ProgramModule> {
  try {
    return (await import(pathToFileURL(file).href)) as ProgramModule;
  } catch (error) {
    throw new KernelError("ENOEXEC", `${file} cannot be loaded: ${describe(error)}`, { path: file, cause: error });
  }
}

/** The program of a module's export. */
export async function loadModuleProgram(
  source: ProgramSource,
): Promise<{ readonly program: Program; readonly module: ProgramModule }> {
  const file = source.module ?? "";
  const loaded = await importModule(file);
  const name = source.export ?? "default";
  const value = (loaded as Readonly<Record<string, unknown>>)[name];
  const stem = basename(file, extname(file));
  // `index` and `main` say nothing: their folder does.
  const label = name !== "default" ? name : /^(index|main)$/.test(stem) ? basename(dirname(file)) : stem;
  return {
    program: toProgram(value, label, {
      module: file,
      ...(source.export === undefined ? {} : { export: source.export }),
    }),
    module: loaded,
  };
}

/** Mounts that a module asks for. */
export function mountsOf(module: ProgramModule, input: unknown, file: string, cwd: string): readonly MountSpec[] {
  const { mounts } = module;
  const moduleDir = dirname(file);
  const list = typeof mounts === "function" ? mounts(input, { cwd, moduleDir }) : (mounts ?? []);
  return list.map((mount) => ({ ...mount, path: resolve(moduleDir, mount.path) }));
}
