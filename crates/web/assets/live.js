// Everything works without this. It saves clicks, and keeps open pages as they are now.

// What is shown once can be copied with a button.
function offerToCopy() {
  for (const field of document.querySelectorAll('input[readonly]')) {
    const button = document.createElement('button')
    button.type = 'button'
    button.textContent = 'Copy'
    button.addEventListener('click', async () => {
      try {
        await navigator.clipboard.writeText(field.value)
      } catch {
        // Browsers give no clipboard to pages that come over http.
        field.select()
        document.execCommand('copy')
      }
      button.textContent = 'Copied'
    })
    field.after(button)
  }
}

// Times are those of whoever reads.
function showLocalTimes(root) {
  for (const time of root.querySelectorAll('time')) {
    const moment = new Date(time.dateTime)
    if (!Number.isNaN(moment.getTime())) {
      time.textContent = moment.toLocaleString(undefined, { dateStyle: 'medium', timeStyle: 'medium' })
      time.title = time.dateTime
    }
  }
}

// Whether somebody is doing something with a part of the page, which a newer one would undo.
function isInUse(part) {
  return part.contains(document.activeElement) && part !== document.activeElement
    || part.querySelector('input:checked, details[open]') !== null
}

// Puts the parts of a newer page in the place of those that are shown.
function show(html) {
  const newer = new DOMParser().parseFromString(html, 'text/html')
  for (const part of document.querySelectorAll('[data-part]')) {
    const now = newer.getElementById(part.id)
    if (now && !isInUse(part)) {
      showLocalTimes(now)
      if (now.innerHTML !== part.innerHTML) part.innerHTML = now.innerHTML
    }
  }
}

// The server says when something changed; then the page is asked for again. A page that nobody sees listens to nothing: each listener
// takes one of the few connections that a browser makes to a server, and those of other pages would wait.
function follow({ live, page }) {
  let source = null
  let asking = false

  async function refresh() {
    if (asking) return
    asking = true
    try {
      // After a form was refused, the address is the form's.
      const answer = await fetch(page || location.href)
      if (answer.ok && !answer.redirected) show(await answer.text())
    } catch {
      // The next word brings it.
    } finally {
      asking = false
    }
  }

  // Whoever begins to listen is told of a change at once, so that a page is as things are now when it is seen again.
  function listen() {
    if (source || document.hidden) return
    source = new EventSource(live)
    source.addEventListener('changed', refresh)
  }

  function stop() {
    source?.close()
    source = null
  }

  document.addEventListener('visibilitychange', () => (document.hidden ? stop() : listen()))
  addEventListener('pagehide', stop)
  addEventListener('pageshow', listen)
  listen()
}

// A form that shows what its triggers would have done does so while one types.
function preview(form) {
  let waiting
  let latest = 0
  form.querySelectorAll('[data-needless]').forEach((button) => button.remove())
  // Fields for text tell of each character; choices, of what was chosen.
  function changed() {
    clearTimeout(waiting)
    waiting = setTimeout(async () => {
      const number = ++latest
      const body = new URLSearchParams(new FormData(form))
      body.set('preview', 'yes')
      try {
        const answer = await fetch(form.action, { method: 'POST', body })
        if (answer.ok && number === latest) show(await answer.text())
      } catch {
        // What one types next brings it.
      }
    }, 250)
  }
  for (const kind of ['input', 'change']) form.addEventListener(kind, changed)
}

offerToCopy()
showLocalTimes(document)
const form = document.querySelector('form[data-preview]')
const main = document.querySelector('main[data-live]')
if (form) preview(form)
else if (main && document.querySelector('[data-part]')) follow(main.dataset)
