// `@ergos/sdk`: what programs in processes of their own are made with.

export { converse, createTool, generateObject, type RunContext, program } from "@ergos/services";
export { KernelError, type Message, type Os } from "@ergos/kernel";
