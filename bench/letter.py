"""The email that benchmarks send: about 3 KB of HTML with six merge fields, as a newsletter's."""

from __future__ import annotations

SUBJECT = "{{ lead.first_name | default: 'Hello' }}, five new routes for your autumn weekends"

_ROUTE = """
    <tr><td style="padding:16px 24px;border-bottom:1px solid #e4e4e0">
      <h2 style="margin:0 0 6px;font:600 18px/1.3 Georgia,serif;color:#1d3b2f">{title}</h2>
      <p style="margin:0 0 10px;font:15px/1.5 Arial,sans-serif;color:#3a3a38">{text}</p>
      <a href="https://news.example.com/routes/{link}" style="color:#0a6b4b;font:600 14px Arial">See the route</a>
    </td></tr>"""

_ROUTES = (
    ("The valley of seven mills", "Eleven flat kilometres along the old race, past sluices that still turn.", "mills"),
    ("Over the ridge before breakfast", "Steep for an hour, then a bench that looks over three counties.", "ridge"),
    ("The drowned village", "When the reservoir is low the church stands dry: go in October.", "village"),
    ("Two ferries and a lighthouse", "A day out with more sitting than walking, and soup at the end.", "ferries"),
    ("The long way to the baker", "Forty minutes through the orchard that most people drive around.", "baker"),
)

HTML = (
    """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Routes</title></head>
<body style="margin:0;background:#f4f4f0">
  <table role="presentation" width="600" align="center" style="border-collapse:collapse;background:#ffffff">
    <tr><td style="padding:24px;background:#1d3b2f;color:#ffffff;font:600 22px Georgia">The Weekend Walker</td></tr>
    <tr><td style="padding:24px;font:16px/1.5 Arial,sans-serif;color:#3a3a38">
      <p>Dear {{ lead.first_name | default: "walker" }} {{ lead.last_name }},</p>
      <p>you have walked with us since {{ lead.signed_up }}, on the {{ lead.plan }} plan. Here is what our people in
      {{ lead.country }} liked best this autumn.</p>
    </td></tr>"""
    + "".join(_ROUTE.format(title=title, text=text, link=link) for title, text, link in _ROUTES)
    + """
    <tr><td style="padding:24px;font:12px/1.5 Arial,sans-serif;color:#77776f">
      This email went to {{ lead.email }}. <a href="{{ unsubscribe_url }}" style="color:#77776f">Unsubscribe</a>
    </td></tr>
  </table>
</body></html>
"""
)

TEXT = """Dear {{ lead.first_name | default: "walker" }} {{ lead.last_name }},

five new routes wait for you: https://news.example.com/routes

Unsubscribe: {{ unsubscribe_url }}
"""
