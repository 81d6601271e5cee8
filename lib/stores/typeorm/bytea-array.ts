const BYTEA_OID = 17;

/**
 * A `bytea[]` in the server's binary form. pg writes arrays as text, each byte as two digits; a Buffer
 * it sends as it is.
 */
export function byteaArray(elements: readonly (Buffer | null)[]): Buffer {
  const parts: Buffer[] = [
    // Dimensions, whether there are NULLs (the server looks by itself), type, and of the one dimension size and first index.
    int32(elements.length === 0 ? 0 : 1, 1, BYTEA_OID, ...(elements.length === 0 ? [] : [elements.length, 1])),
  ];
  for (const element of elements) {
    if (element === null) parts.push(int32(-1));
    else parts.push(int32(element.byteLength), element);
  }
  return Buffer.concat(parts);
}

function int32(...values: readonly number[]): Buffer {
  const buffer = Buffer.allocUnsafe(values.length * 4);
  values.forEach((value, index) => buffer.writeInt32BE(value, index * 4));
  return buffer;
}
