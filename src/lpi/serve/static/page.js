"use strict"
const by = id => document.getElementById(id)

function say(place, text, wrong = false) {
  by(place).textContent = text
  by(place).classList.toggle("error", wrong)
}

async function ask(form, path, status) {
  const button = form.querySelector("button")
  button.disabled = true
  say(status, "Working …")
  try {
    const answer = await fetch(path, { method: "POST", body: new FormData(form) })
    const found = await answer.json()
    if (answer.ok) return found
    say(status, typeof found.error === "string" ? found.error : "The server did not understand this.", true)
  } catch {
    say(status, "The server does not answer.", true)
  } finally {
    button.disabled = false
  }
  return null
}

const noted = notice => notice === null ? "" : ` Note: ${notice}.`
const routed = found => found.task === null ? "" : `Task: ${found.task} (confidence ${found.confidence.toFixed(2)}). `

function hit(found) {
  const item = document.createElement("li"), figure = document.createElement("figure")
  const caption = document.createElement("figcaption")
  if (found.image === null) {
    const gone = document.createElement("div")
    gone.className = "gone"
    gone.textContent = "deleted since"
    figure.append(gone)
  } else {
    const image = document.createElement("img")
    image.src = found.image
    image.alt = found.name
    figure.append(image)
  }
  caption.textContent = `${found.score.toFixed(2)}${found.task === null ? "" : ` ${found.task}`} ${found.name}`
  figure.append(caption)
  item.append(figure)
  return item
}

by("search-form").addEventListener("submit", async event => {
  event.preventDefault()
  by("search-results").hidden = true
  const found = await ask(event.target, "search", "search-status")
  if (found === null) return
  by("with").replaceChildren(...found.hits.map(hit))
  by("without").replaceChildren(...found.frozen.map(hit))
  by("search-results").hidden = false
  say("search-status", `${routed(found)}${found.hits.length} images.${noted(found.notice)}`)
})

function draw(box, place) {
  by(place).hidden = box === null
  if (box === null) return
  const image = by("picture"), [left, top, right, bottom] = box
  const percent = (value, whole) => `${100 * value / whole}%`
  Object.assign(by(place).style, {
    left: percent(left, image.naturalWidth), width: percent(right - left, image.naturalWidth),
    top: percent(top, image.naturalHeight), height: percent(bottom - top, image.naturalHeight)
  })
}

by("locate-form").addEventListener("submit", async event => {
  event.preventDefault()
  by("locate-result").hidden = true
  const found = await ask(event.target, "locate", "locate-status")
  if (found === null) return
  const expression = event.target.elements.expression.value
  by("picture").src = found.picture
  by("picture").alt = `The picture, with a box around ${expression}`
  await by("picture").decode()
  draw(found.frozen, "box-frozen")
  draw(found.box, "box")
  const other = found.frozen === null ? "" : " Dashed: what is found without prompts."
  by("locate-caption").textContent = `${expression}.${other}`
  by("locate-result").hidden = false
  say("locate-status", `${routed(found)}Found at ${found.box.map(Math.round).join(", ")} (left, top, right, bottom).`)
})

function disable(part, why) {
  for (const field of by(`${part}-form`).elements) field.disabled = true
  by(`${part}-about`).textContent = why
}

fetch("about").then(answer => answer.json()).then(about => {
  by("report").hidden = !about.report
  if (about.search) {
    const { model, images, tasks, notice } = about.search
    by("search-about").textContent = `${images} images, model ${model}.${noted(notice)}`
    for (const task of tasks) by("search-form").elements.task.append(new Option(task, task))
    by("task-label").hidden = tasks.length === 0
  } else disable("search", about.why)
  if (about.locate) by("locate-about").textContent = `Model ${about.locate.model}.${noted(about.locate.notice)}`
  else disable("locate", "There is no model that locates things.")
})
