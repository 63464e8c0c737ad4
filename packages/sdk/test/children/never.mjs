// Never finishes loading.
await new Promise(() => undefined);
export default () => undefined;
