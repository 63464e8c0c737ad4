// `@ergos/services/faces`: the files of a process in the shapes that other programs know.

export { openShell, toBashFs, type Shell, type ShellAnswer, type ShellOptions } from "./bash-fs.ts";
export { toNodeFs, type NodeFs } from "./node-fs.ts";
