"""Who may call what: authentication, scopes, model patterns and allow-lists, as interceptors and inspectors."""
