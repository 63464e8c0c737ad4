// Manifests on disk: reading, compiling, and the program of one.

import { readFileSync } from "node:fs";
import { relative, resolve } from "node:path";
import {
  type Compilation,
  type PlanDocument,
  compileManifest,
  fileHost,
  formatDiagnostic,
  suggest,
} from "@ergos/compiler";
import { KernelError, type ProgramSource, describe } from "@ergos/kernel";
import { HOST_TOOLS } from "./host-tools.ts";

/**
 * Compiles a manifest file.
 * @throws {ENOENT} it cannot be read
 */
export function compileFile(file: string, options: { readonly lint?: boolean } = {}): Compilation {
  const host = { ...fileHost(file, process.env), tools: HOST_TOOLS.map(({ name }) => name) };
  return compileManifest(readManifest(file), { file: shownPath(file), host, ...options });
}

/** The path as a person would type it: relative where that is shorter. */
function shownPath(file: string): string {
  const near = relative(process.cwd(), resolve(file));
  return near.startsWith("..") || near === "" ? resolve(file) : near;
}

function readManifest(file: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(readFileSync(file));
  } catch (cause) {
    throw new KernelError("ENOENT", `${file} cannot be read: ${describe(cause)}`, { path: file, cause });
  }
}

/**
 * The pipeline of a manifest that a source names: the only one, or that of `export`.
 * @throws {ENOEXEC} the manifest has errors, each on a line of the message · {EINVAL} it has no such pipeline, or several
 */
export function pipelineOf(source: ProgramSource): PlanDocument {
  const file = source.module ?? "";
  const { plans, diagnostics, hasErrors } = compileFile(file);
  if (hasErrors) {
    const errors = diagnostics.filter(({ severity }) => severity === "error");
    throw new KernelError(
      "ENOEXEC",
      `${shownPath(file)} has ${errors.length} error${errors.length === 1 ? "" : "s"}\n${errors.map(formatDiagnostic).join("\n")}`,
      { path: file },
    );
  }
  const names = plans.map(({ name }) => name);
  const chosen =
    source.export === undefined && plans.length === 1 ? plans[0] : plans.find(({ name }) => name === source.export);
  if (chosen !== undefined) return chosen;
  const why =
    source.export === undefined
      ? `has ${plans.length} pipelines (${names.join(", ")}); choose one with --pipeline`
      : `has no pipeline ${source.export}; ${suggest(source.export, names) ?? ""}`;
  throw new KernelError("EINVAL", `${shownPath(file)} ${why}`, { path: file });
}
