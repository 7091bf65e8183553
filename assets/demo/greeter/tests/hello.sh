[ "$(sh app.sh hello)" = "Hello!" ]
