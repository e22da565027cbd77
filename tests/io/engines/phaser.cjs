// node phaser.cjs SHEET.json...: how Phaser reads the sheets, as JSON; run where phaser is installed
const { readFileSync } = require('node:fs');
const path = require('node:path');

globalThis.window ??= globalThis; // a browser has it, and these kinds of pictures
for (const kind of ['HTMLCanvasElement', 'HTMLVideoElement']) globalThis[kind] ??= class {};

const home = path.resolve('node_modules/phaser/src');
const Texture = require(path.join(home, 'textures/Texture'));
const JSONHash = require(path.join(home, 'textures/parsers/JSONHash'));

const found = [];
for (const file of process.argv.slice(2)) {
  const data = JSON.parse(readFileSync(file));
  const image = { width: data.meta.size.w, height: data.meta.size.h };
  const manager = { game: { renderer: null, config: {} } };
  const texture = new Texture(manager, file, [image]);
  JSONHash(texture, 0, data);
  for (const name of texture.getFrameNames()) {
    const f = texture.get(name);
    found.push({
      name, image: data.meta.image, frame: [f.cutX, f.cutY, f.cutWidth, f.cutHeight],
      source: [f.realWidth, f.realHeight],
      pivot: [f.pivotX, f.pivotY],
      // what a Sprite draws, from its position: see BatchHandler and setOriginFromFrame
      corner: [f.x - f.pivotX * f.realWidth, f.y - f.pivotY * f.realHeight],
    });
  }
}
console.log(JSON.stringify(found));
