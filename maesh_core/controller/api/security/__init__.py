"""Who may ask the controller's API: TLS, certificates, tokens, and what keeps the web sites of others away."""
