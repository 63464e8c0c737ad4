// A module that wants a folder of the machine.

export const mounts = [{ at: "/srv/in", path: "." }];

export default (): string => "never";
