// Everything works without this. It only saves a click: what is shown once can be copied with a button.
for (const field of document.querySelectorAll('input[readonly]')) {
  const button = document.createElement('button')
  button.type = 'button'
  button.textContent = 'Copy'
  button.addEventListener('click', async () => {
    await navigator.clipboard.writeText(field.value)
    button.textContent = 'Copied'
  })
  field.after(button)
}
