// node pixi.mjs SHEET.json...: how PixiJS reads the sheets, as JSON; run where pixi.js is installed
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

globalThis.navigator ??= { userAgent: 'node' };  // a browser has one
const require = createRequire(process.cwd() + '/');
const { Spritesheet, Texture, TextureSource } = await import(
  pathToFileURL(require.resolve('pixi.js').replace(/index\.js$/, 'index.mjs')));

const box = (r) => [r.x, r.y, r.width, r.height];
const found = [];
for (const file of process.argv.slice(2)) {
  const data = JSON.parse(readFileSync(file));
  const source = new TextureSource({ width: data.meta.size.w, height: data.meta.size.h });
  const textures = await new Spritesheet(new Texture({ source }), data).parse();
  for (const [name, texture] of Object.entries(textures)) {
    const trim = texture.trim ? box(texture.trim) : [0, 0, texture.frame.width, texture.frame.height];
    const { orig, defaultAnchor } = texture;
    found.push({
      name, image: data.meta.image, frame: box(texture.frame), source: [orig.width, orig.height],
      pivot: [defaultAnchor.x, defaultAnchor.y],
      // what Sprite draws, from its position: see updateQuadBounds
      corner: [trim[0] - defaultAnchor.x * orig.width, trim[1] - defaultAnchor.y * orig.height],
    });
  }
}
console.log(JSON.stringify(found));
