"""What stands in a page that `minunet.look` wrote."""

import json
import re


def facts(html):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)[1])
