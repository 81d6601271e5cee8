/**
 * Imported before anything else: from here on the wall clock of this process is what the nemesis
 * says. Only `Date` is shifted, as an operator or NTP would shift it; clocks that cannot jump do not.
 */
let shiftMs = 0;

globalThis.Date = new Proxy(Date, {
  construct: (target, args: [], newTarget: new () => Date) =>
    Reflect.construct(target, args.length === 0 ? [target.now() + shiftMs] : args, newTarget) as Date,
  get: (target, name, receiver) =>
    name === 'now' ? () => target.now() + shiftMs : (Reflect.get(target, name, receiver) as unknown),
});

process.on('message', (message: { clockShiftMs?: number }) => {
  if (message.clockShiftMs !== undefined) shiftMs = message.clockShiftMs;
});
