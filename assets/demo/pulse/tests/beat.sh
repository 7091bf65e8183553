[ "$(sh app.sh beat)" = beat ]
