// A fixture does not outlive the test that started it.
if (process.send) process.once('disconnect', () => process.exit(1));
// Listening for that alone must not keep it alive.
process.channel?.unref();
